"""One verb a stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clinimm.cli.common import (
    Data,
    Overrides,
    Quiet,
    Target,
    find_subject,
    load_target,
    load_workspace,
    runs_folder,
)
from clinimm.core.attribution import MOST_CASES
from clinimm.core.errors import CliniMMError, IntegrityError
from clinimm.register.registration import last_candidate

if TYPE_CHECKING:
    import pandas as pd

    from clinimm.pipeline import Outcome
    from clinimm.workspace import Workspace

EXIT_NO_AUDIT, EXIT_OTHER_EVIDENCE = 3, 4

Subject = Annotated[
    str | None,
    typer.Option("--subject", metavar="S", help="One subject: the pseudonym, or the patient identifier."),
]


def add_to(app: typer.Typer) -> None:
    """Add this file's verbs."""
    app.command()(ingest)
    app.command()(cohort)
    app.command()(encode)
    app.command()(train)
    app.command()(predict)
    app.command()(evaluate)
    app.command()(explain)
    app.command()(audit)
    app.command()(register)
    app.command()(report)


def ingest(file: Target, data: Data = None, settings: Overrides = None, quiet: Quiet = False) -> None:
    """Read the sources into events.parquet and refusals.parquet."""
    _run("ingest", file, data, settings, quiet)


def cohort(
    file: Target,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print who left at which step, and why.")
    ] = False,
    data: Data = None,
    settings: Overrides = None,
    quiet: Quiet = False,
) -> None:
    """Choose subjects, index times, labels and splits by the cohort file."""
    try:
        _run("cohort", file, data, settings, quiet)
    finally:  # a cohort that is refused is explained as well: that is when one asks
        if explain:
            _print_flow(load_workspace(file, settings).root / "cohort" / "flow.json")


def encode(file: Target, data: Data = None, settings: Overrides = None, quiet: Quiet = False) -> None:
    """Cut at the index time and turn what is left into tokens."""
    _run("encode", file, data, settings, quiet)


def train(file: Target, settings: Overrides = None, quiet: Quiet = False) -> None:
    """Fit the fused model and its simpler rivals; goes on where a killed run stopped."""
    _run("train", file, None, settings, quiet)


def predict(file: Target, settings: Overrides = None, quiet: Quiet = False) -> None:
    """Score held-out subjects with the model, its subsets and the controls."""
    _run("predict", file, None, settings, quiet)


def evaluate(file: Target, settings: Overrides = None) -> None:
    """Discrimination, calibration, subsets, controls, and whether fusion helps."""
    from clinimm.cli.summary import evaluation_lines

    _run("evaluate", file, None, settings, quiet=True)
    for line in evaluation_lines(load_workspace(file, settings)):
        typer.echo(line)


def explain(
    file: Target,
    subject: Subject = None,
    method: Annotated[
        str | None,
        typer.Option("--method", metavar="M", help="Another method for that subject; nothing is written."),
    ] = None,
    settings: Overrides = None,
    quiet: Quiet = False,
) -> None:
    """Attribute predictions to pixels, tiles, facts and words; --subject prints one budget.

    Exits 2 where a subject could not be explained; the others are, and each refused one is named.
    """
    if subject is None:
        if method is not None:
            raise typer.BadParameter("--method needs --subject; a run's own method is explain.method")
        _list_refused(_run("explain", file, None, settings, quiet), load_workspace(file, settings))
        return
    from clinimm.cli.summary import budget_lines
    from clinimm.explain.stage import explain_subjects
    from clinimm.progress import Progress

    workspace = load_workspace(file, settings)
    workspace.config.require_diagnosis("`clinimm explain --subject`")
    found = explain_subjects(workspace, [find_subject(workspace, subject)], Progress(quiet), method)
    for line in budget_lines(found.attributions, found.summary, found.standings):
        typer.echo(line)


def audit(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="Pipeline file or run; default is the last candidate."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Another hospital's export, scored by the run's model."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 4 unless the run holds this same evidence.")
    ] = False,
    settings: Overrides = None,
    explain_policy: Annotated[
        bool,
        typer.Option(
            "--explain-policy", help="Say in plain words what the policy asks; FILE may be a policy file."
        ),
    ] = False,
) -> None:
    """Compare groups of people against the policy.

    Exits 0 where nothing blocks, 1 where a rule is broken, 2 where an undecided rule blocks, 3 where the
    audit itself could not be made, and 4 where --check finds other evidence.
    """
    from clinimm.cli.audit_run import audit_target
    from clinimm.cli.summary import audit_lines

    try:
        if explain_policy:
            for line in _policy_lines(file, settings):
                typer.echo(line)
            return
        target = file or last_candidate(runs_folder(settings))
        found, page = audit_target(target, data, check, settings)
    except CliniMMError as error:
        typer.echo(f"clinimm: {error}", err=True)
        raise typer.Exit(
            EXIT_OTHER_EVIDENCE if isinstance(error, IntegrityError) else EXIT_NO_AUDIT
        ) from error
    for line in audit_lines(found):
        typer.echo(line)
    typer.echo(f"{'same evidence' if check else 'audit'}: {page}")
    raise typer.Exit(int(found["exit_status"]))


def _policy_lines(file: Path | None, settings: list[str] | None) -> list[str]:
    """The policy in words: of a policy file, of a pipeline or run, or of this folder."""
    from clinimm.audit.explain_policy import explain_policy
    from clinimm.audit.policy import find_policy, load_policy
    from clinimm.yaml_lines import read_yaml

    if file is None:
        path = find_policy(None)
    elif file.is_file() and "rules" in read_yaml(file).value:
        path = file
    else:
        path = find_policy(load_target(file, settings).audit.policy)
    return [f"{path}:", *explain_policy(load_policy(path))]


def register(file: Target, settings: Overrides = None, quiet: Quiet = False) -> None:
    """Track the run in MLflow, sign its manifest and register the model."""
    _run("register", file, None, settings, quiet)


def report(
    file: Target,
    subject: Subject = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where the subject's page is written.")
    ] = None,
    nearest: Annotated[
        int | None,
        typer.Option(
            "--nearest",
            metavar="N",
            min=0,
            max=MOST_CASES,
            help="List the N nearest training patients, by pseudonym; default is explain.nearest_cases.",
        ),
    ] = None,
    settings: Overrides = None,
    quiet: Quiet = False,
) -> None:
    """Write the model card and the patient pages; --subject writes one patient's page.

    Exits 2 where a page could not be written; the others are, and each refused subject is named.
    """
    if subject is None:
        if out is not None:
            raise typer.BadParameter("--out needs --subject")
        if nearest is not None:
            raise typer.BadParameter("--nearest needs --subject; a run's own is explain.nearest_cases")
        _list_refused(_run("report", file, None, settings, quiet), load_workspace(file, settings))
        return
    from clinimm.report.patient_report import write_patient_report

    workspace = load_workspace(file, settings)
    workspace.config.require_diagnosis("`clinimm report --subject`")
    found = find_subject(workspace, subject)
    out = out or workspace.stage("report") / "patients" / f"{found}.html"
    count = workspace.config.explain.nearest_cases if nearest is None else nearest
    write_patient_report(workspace, found, out, _nearest(workspace, found, count))
    typer.echo(f"patient report: {out}")


def _nearest(workspace: Workspace, subject: str, count: int) -> pd.DataFrame | None:
    """The training patients for a page; None where none were asked for, and then torch is not loaded."""
    if not count:
        return None
    from clinimm.explain.nearest import nearest_cases

    return nearest_cases(workspace, [subject], count)


def _print_flow(path: Path) -> None:
    from clinimm.cohort.explain import explain_text

    if path.is_file():
        typer.echo(explain_text(json.loads(path.read_text(encoding="utf-8"))))


def _list_refused(outcome: Outcome, workspace: Workspace) -> None:
    """Name the subjects that a stage went on without, and exit as one that refuses."""
    from clinimm.cli.app import EXIT_REFUSED
    from clinimm.cli.summary import refused_lines

    if outcome.record.notes.get("refused"):
        for line in refused_lines(workspace, outcome.stage):
            typer.echo(line)
        raise typer.Exit(EXIT_REFUSED)


def _run(name: str, target: Path, data: Path | None, settings: list[str] | None, quiet: bool) -> Outcome:
    from clinimm.pipeline import run_stage
    from clinimm.progress import Progress

    return run_stage(load_target(target, settings, data), name, Progress(quiet))
