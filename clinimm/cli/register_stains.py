"""The verb that lays one stain on another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clinimm.cli.common import Quiet


def add_to(app: typer.Typer) -> None:
    """Add this file's verb."""
    app.command(name="register-stains")(register_stains)


def register_stains(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="The slide that stays where it is.")],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The stain that is moved onto it.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder that is made.")],
    resolution_um: Annotated[
        float | None,
        typer.Option(
            "--resolution-um", metavar="UM", min=0.05, max=100, help="Micrometres a pixel to work at."
        ),
    ] = None,
    max_error_um: Annotated[
        float,
        typer.Option(
            "--max-error-um", metavar="UM", min=0.01, help="Refused where 90 % are not within this."
        ),
    ] = 3.0,
    landmarks: Annotated[
        Path | None,
        typer.Option(
            "--landmarks", metavar="FILE", help="CSV: source_x_um, source_y_um, target_x_um, target_y_um."
        ),
    ] = None,
    mpp_um: Annotated[
        float | None,
        typer.Option(
            "--mpp-um", metavar="UM", min=0.01, max=100, help="Micrometres a pixel of files that state none."
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Lay one stain on another, say how well, and refuse the pair for training where it is not enough.

    Exits 0 where the pair may be trained on, 2 where it is refused.
    """
    from clinimm.cli.app import EXIT_REFUSED
    from clinimm.staining.register_files import Request, in_words, register_files

    request = Request(source, target, out, resolution_um, mpp_um, max_error_um, landmarks)
    found = register_files(
        request, (lambda _: None) if quiet else (lambda text: typer.echo(f"  {text}", err=True))
    )
    for line in in_words(found):
        typer.echo(line)
    typer.echo(f"registration: {out}")
    if found.refused is not None:
        raise typer.Exit(EXIT_REFUSED)
