"""Verbs that look at one slide."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clinimm.core.errors import ConfigError


def add_to(app: typer.Typer) -> None:
    """Add this file's verbs."""
    app.command(name="slide-quality")(slide_quality)


def slide_quality(
    slide: Annotated[Path, typer.Argument(metavar="SLIDE", help="A whole-slide image of any known format.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="What is written: .html or .png.")],
    mpp_um: Annotated[
        float | None,
        typer.Option(
            "--mpp-um", metavar="UM", min=0.01, max=100, help="Micrometres a pixel, if the file states none."
        ),
    ] = None,
    title: Annotated[
        str, typer.Option("--title", metavar="TEXT", help="Heading of the page; never a patient's name.")
    ] = "slide",
) -> None:
    """Find pen, folds, bubbles, glass and what is out of focus; draw them over the slide."""
    from clinimm.core.record import write_bytes, write_text
    from clinimm.modalities.pathology import overlay
    from clinimm.modalities.pathology.quality import slide_quality as judge
    from clinimm.modalities.pathology.slide import Slide

    if out.suffix.lower() not in (".html", ".png"):
        raise ConfigError(f"--out {out}: expected a name that ends in .html or .png.")
    with Slide(slide, mpp_um) as opened:
        found = judge(opened)
    if out.suffix.lower() == ".png":
        write_bytes(out, overlay.picture_png(found))
    else:
        write_text(out, overlay.page(found, title))
    for line in overlay.lines(found):
        typer.echo(line)
    typer.echo(f"masks at {found.um_per_pixel:.2f} µm a pixel, n = {found.tissue.size:,} pixels: {out}")
