"""The verbs for a whole run and for a finished model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clinimm.cli.common import Data, Overrides, Quiet, Run, Target, find_run, load_target


def add_to(app: typer.Typer) -> None:
    """Add this file's verbs."""
    app.command()(run)
    app.command()(validate)
    app.command()(verify)


def run(
    file: Target,
    data: Data = None,
    from_stage: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="Start here, even if nothing changed.")
    ] = None,
    until_stage: Annotated[
        str | None, typer.Option("--until", metavar="STAGE", help="Stop after it.")
    ] = None,
    settings: Overrides = None,
    quiet: Quiet = False,
) -> None:
    """Do everything, from data to report; what did not change is skipped."""
    from clinimm.cli.summary import evaluation_lines, report_lines
    from clinimm.pipeline import run_pipeline
    from clinimm.progress import Progress
    from clinimm.workspace import Workspace

    config = load_target(file, settings, data)
    outcomes = run_pipeline(config, from_stage, until_stage, Progress(quiet))
    workspace = Workspace(config)
    shown = not quiet and any(one.stage == "evaluate" and not one.skipped for one in outcomes)
    for line in (*evaluation_lines(workspace, brief=shown), *report_lines(workspace)):
        typer.echo(line)


def validate(
    run: Run,
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Another hospital's export.")],
    settings: Overrides = None,
    quiet: Quiet = False,
) -> None:
    """Score a finished model on another hospital's export; nothing is fitted to it."""
    from clinimm.progress import Progress
    from clinimm.validate import validate_run

    config = load_target(find_run(run, settings), settings)
    result = validate_run(config, data, Progress(quiet), settings or ())
    typer.echo(f"predictions: {result.predictions}")
    typer.echo(f"training pool: {result.overlap.sentence}")
    typer.echo(result.line)


def verify(
    run: Run,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="The signer's public key; default is your own."),
    ] = None,
    settings: Overrides = None,
) -> None:
    """Check that a registered run is, byte for byte, what was signed."""
    from clinimm.register.manifest import MANIFEST_NAME, verify_manifest

    folder = find_run(run, settings)
    signed = verify_manifest(folder, folder / "register" / MANIFEST_NAME, key)
    typer.echo(f"{folder}: {len(signed.files)} files are as signed by key {signed.key_id}")
