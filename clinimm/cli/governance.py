"""Verbs of the folder governance/: check it, compare runs with the plan, write evidence documents."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from clinimm.cli.common import find_run
from clinimm.core.errors import CliniMMError, ConfigError, IntegrityError

EXIT_PROBLEMS, EXIT_BAD_INPUT, EXIT_OTHER_EVIDENCE = 1, 3, 4

Folder = Annotated[Path, typer.Option("--governance", metavar="DIR", help="The folder governance/.")]


class Tested(StrEnum):
    """What the tested rows are to those that the model was made from."""

    internal = "internal"
    external = "external"
    local = "local"


def add_to(app: typer.Typer) -> None:
    """Add this file's verbs."""
    group = typer.Typer(
        no_args_is_help=True, help="Check governance/, compare runs with its plan, write evidence documents."
    )
    group.command("check")(check)
    group.command("diff")(diff)
    group.command("cards")(cards)
    app.add_typer(group, name="governance")


def check(
    governance: Folder = Path("governance"),
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write the traceability table: HTML, CSV.")
    ] = None,
    collect: Annotated[
        bool, typer.Option("--collect", help="Ask pytest whether it collects each test; slower.")
    ] = False,
    junit: Annotated[
        Path | None,
        typer.Option("--junit", metavar="FILE", help="Results of pytest; each test must have passed."),
    ] = None,
    run: Annotated[
        Path | None, typer.Option("--run", metavar="RUN", help="A run that must hold the evidence.")
    ] = None,
    on: Annotated[
        datetime | None, typer.Option("--on", formats=["%Y-%m-%d"], help="Day of the check; today.")
    ] = None,
) -> None:
    """Trace every hazard to a control, a test that exists, and evidence; look for what is overdue.

    Exits 0 where all is well, 1 where a cell is empty, a test is missing or something is overdue, and 3
    where the check could not be made.
    """
    from clinimm.core.record import write_text
    from clinimm.governance.check import check_folder
    from clinimm.governance.hazards import HAZARDS_FILE, read_hazards
    from clinimm.governance.nodes import collected, outcomes
    from clinimm.governance.trace import Seen, trace_csv
    from clinimm.governance.trace_page import trace_page

    try:
        hazards, _ = read_hazards(governance / HAZARDS_FILE)
        root = governance.absolute().parent
        named = [test for hazard in hazards.hazards for control in hazard.controls for test in control.tests]
        seen = Seen(
            root,
            collected(root, named) if collect else None,
            outcomes(junit) if junit else None,
            find_run(run) if run else None,
        )
        found = check_folder(governance, seen, on.date() if on else date.today())
    except CliniMMError as error:
        typer.echo(f"clinimm: {error}", err=True)
        raise typer.Exit(EXIT_BAD_INPUT) from error
    if out is not None:
        write_text(out / "traceability.html", trace_page(found, hazards))
        write_text(out / "traceability.csv", trace_csv(list(found.rows)))
    for text in found.problems:
        typer.echo(f"problem: {text}")
    for text in found.notes:
        typer.echo(text)
    controls = {(row.hazard, row.control) for row in found.rows if row.control}
    tests = {row.test for row in found.rows if row.test}
    typer.echo(
        f"{len(hazards.hazards)} hazards, {len(controls)} controls, {len(tests)} tests, "
        f"{len(found.problems)} problems."
    )
    if out is not None:
        typer.echo(f"traceability: {out / 'traceability.html'}")
    if found.problems:
        raise typer.Exit(EXIT_PROBLEMS)


def diff(
    approved: Annotated[Path, typer.Argument(metavar="APPROVED", help="The run that was approved.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The run that is to replace it.")],
    governance: Folder = Path("governance"),
) -> None:
    """Say whether a new run differs from an approved one only as the change control plan allows.

    Exits 0 inside the envelope and accepted by the new run's own audit, 1 outside, 2 inside and not
    accepted, and 3 where the runs could not be compared.
    """
    from clinimm.governance.change import CHANGE_FILE, read_change_control
    from clinimm.governance.difference import difference

    try:
        plan, _ = read_change_control(governance / CHANGE_FILE)
        found = difference(find_run(approved), find_run(new), plan)
    except CliniMMError as error:
        typer.echo(f"clinimm: {error}", err=True)
        raise typer.Exit(EXIT_BAD_INPUT) from error
    for line in found.lines():
        typer.echo(line)
    raise typer.Exit(found.exit_status)


def cards(
    audit: Annotated[Path, typer.Argument(metavar="AUDIT", help="audit.json, or a run.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the documents.")],
    card: Annotated[
        list[Path] | None,
        typer.Option("--card", metavar="FILE", help="Texts of this model, before the general; repeatable."),
    ] = None,
    tested: Annotated[
        Tested | None, typer.Option("--tested", help="What a table's rows are to those of training.")
    ] = None,
    governance: Folder = Path("governance"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 4 unless DIR holds these same documents.")
    ] = False,
) -> None:
    """Write the CHAI model card, HTI-1 attributes, Annex IV and TRIPOD+AI from audit.json.

    Of a run the published view is taken where there is one. Exits 3 where the audit or a text is wrong,
    and 4 where --check finds other documents.
    """
    from clinimm.governance.cards.write import check_documents, documents, load_source, write_documents

    try:
        stated = tested.value if tested else None
        source = load_source(_audit_file(audit), governance, tuple(card or ()), stated)  # type: ignore[arg-type]
        files = documents(source)
        if check:
            check_documents(out, files)
        else:
            write_documents(out, files)
    except CliniMMError as error:
        typer.echo(f"clinimm: {error}", err=True)
        other = isinstance(error, IntegrityError)
        raise typer.Exit(EXIT_OTHER_EVIDENCE if other else EXIT_BAD_INPUT) from error
    for name in files:
        typer.echo(f"{'same' if check else 'written'}: {out / name}")


def _audit_file(audit: Path) -> Path:
    """``audit.json`` itself, or that of a run: the published view where there is one."""
    if audit.is_file():
        return audit
    from clinimm.governance.cards.from_run import audit_file_of

    if (path := audit_file_of(find_run(audit))) is not None:
        return path
    raise ConfigError(f"{audit}: this run has no audit; run `clinimm audit {audit}` first.")
