"""The verbs around a run: a simulated hospital, the token cache, the installation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clinimm.cli.common import Overrides, Quiet


def add_to(app: typer.Typer) -> None:
    """Add this file's verbs."""
    app.command()(simulate)
    app.command()(cache)
    app.command()(doctor)
    app.command()(version)


def simulate(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder that is made.")],
    subjects: Annotated[int, typer.Option("--subjects", metavar="N", min=1, help="Patients.")] = 300,
    seed: Annotated[int, typer.Option("--seed", metavar="S", min=0, help="Same seed, same bytes.")] = 0,
    scenario: Annotated[
        str, typer.Option("--scenario", metavar="NAME", help="What is planted; a wrong name lists them.")
    ] = "synergy",
    quiet: Quiet = False,
) -> None:
    """Write a hospital with known truth, in real file formats."""
    from clinimm.progress import Progress
    from clinimm.simulate.hospital import simulate as write_hospital

    write_hospital(out, subjects, seed, scenario, Progress(quiet))
    typer.echo(f"hospital: {out} ({subjects} patients, scenario {scenario}, seed {seed})")


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove everything in it.")] = False,
    settings: Overrides = None,
) -> None:
    """Show the token cache, or clear it."""
    from clinimm.cli.common import runs_folder
    from clinimm.nn.cache import TokenCache

    folder = runs_folder(settings) / "cache"
    store = TokenCache(folder)
    if clear:
        typer.echo(f"token cache {folder}: {store.clear()} entries removed")
        return
    stats = store.stats()
    typer.echo(f"token cache {folder}: {sum(one.entries for one in stats)} entries")
    for one in stats:
        name = one.identity.get("encoder", "unknown")
        typer.echo(f"  {name:<28} {one.entries:>8} entries  {one.size_bytes / 1e6:10.1f} MB")


def doctor() -> None:
    """Say what is installed, what is missing and how to get it; exits 1 if something needed is."""
    from clinimm.doctor import examine, table

    findings = examine()
    typer.echo(table(findings))
    if any(finding.state == "missing" and finding.needed for finding in findings):
        raise typer.Exit(1)


def version() -> None:
    """The version, with the digest of the source that runs."""
    from clinimm.provenance import code_version

    typer.echo(f"clinimm {code_version()}")
