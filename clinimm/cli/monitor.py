"""``clinimm monitor``: a deployed model's new data against its reference; tables alone do, without torch."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clinimm.cli.common import Quiet, find_run
from clinimm.core.errors import CliniMMError, ConfigError

if TYPE_CHECKING:
    from clinimm.monitor.plan import MonitoringPlan
    from clinimm.monitor.snapshot import Snapshot

EXIT_BAD_INPUT = 3
INCIDENTS = "incidents"


def add_to(app: typer.Typer) -> None:
    """Add this file's verb."""
    app.command("monitor")(monitor)


def monitor(  # noqa: PLR0913, PLR0917  # one parameter an option
    reference: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="The deployed run, or a table of the reference's predictions."),
    ],
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="PATH", help="New export, scored run, or table of predictions."),
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            "--since", formats=["%Y-%m-%d"], help="Divide the table RUN: rows from here on are new."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder of the board; RUN/monitor for a run.")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", metavar="FILE", help="Limits; governance/monitoring.yaml.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", metavar="P", help="Probability from which a row is flagged."),
    ] = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option("--attribute", metavar="A", help="Column of groups, for tables; repeatable."),
    ] = None,
    feedback: Annotated[
        Path | None, typer.Option("--feedback", metavar="FILE", help="What `clinimm feedback export` wrote.")
    ] = None,
    incidents: Annotated[
        Path | None,
        typer.Option("--incidents", metavar="DIR", help="Folder of incident records; governance/incidents."),
    ] = None,
    trust: Annotated[
        list[Path] | None,
        typer.Option(
            "--trust", metavar="FILE", help="Public key of somebody else who records here; repeatable."
        ),
    ] = None,
    drawn: Annotated[
        datetime | None,
        typer.Option(
            "--drawn",
            formats=["%Y-%m-%d"],
            help="Day on which the new data were drawn, to which a label's age is counted; that of the "
            "newest prediction.",
        ),
    ] = None,
    on: Annotated[
        datetime | None, typer.Option("--on", formats=["%Y-%m-%d"], help="Day of the look; today.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Look at a deployed model: input, drift, performance, gaps, objections, against the plan's limits.

    Exits 0 where nothing was found, 1 on a breach, 2 where something that the plan needs had too few to
    tell, and 3 where the input is wrong. A breach leaves an incident record and, where the plan says so, a
    proposal what to go back to; nothing is changed.
    """
    from clinimm.core.keys import as_text, load_public
    from clinimm.monitor.incident import read_incidents
    from clinimm.monitor.incident_log import keep_end, read_kept
    from clinimm.monitor.objections import read_feedback
    from clinimm.monitor.plan import IN_REPOSITORY, find_plan, load_plan
    from clinimm.monitor.run import content_of, look, summary_lines
    from clinimm.monitor.write import write_board

    try:
        plan_file = find_plan(plan)
        limits = load_plan(plan_file)
        if threshold is not None:
            if not 0 < threshold < 1:
                raise ConfigError(f"--threshold {threshold:g}: expected a probability above 0 and below 1.")
            limits = limits.model_copy(update={"threshold": threshold})
        run = None if reference.is_file() else find_run(reference)
        place = _out(out, run)
        day = on.date() if on else date.today()
        before, now = _snapshots(reference, run, data, since, attribute or [], quiet)
        limits = _drawn(limits, drawn, now, day)
        said = None if feedback is None else read_feedback(feedback)
        kept = incidents or (
            IN_REPOSITORY.parent / INCIDENTS if plan_file == IN_REPOSITORY else place / INCIDENTS
        )
        trusted = [as_text(load_public(one.read_bytes(), str(one))) for one in trust or []]
        read_incidents(kept, trusted, read_kept(place, kept))
        looked = look(before, now, limits, said, _deployed(run), day)
        runs_dir = None if run is None else run.resolve().parent
        content = content_of(looked, before, now, limits, plan_file, kept, runs_dir, day, trusted)
        write_board(place, content)
        keep_end(place, kept)
    except CliniMMError as error:
        typer.echo(f"clinimm: {error}", err=True)
        raise typer.Exit(EXIT_BAD_INPUT) from error
    for line in summary_lines(content):
        typer.echo(line)
    typer.echo(f"board: {place / 'board.html'}")
    raise typer.Exit(looked.exit_status)


def _drawn(limits: MonitoringPlan, drawn: datetime | None, now: Snapshot, day: date) -> MonitoringPlan:
    if drawn is None:
        return limits
    if drawn.date() > day:
        raise ConfigError(f"--drawn {drawn.date()}: later than the day of the look, {day}.")
    if now.times is not None and now.times[1].date() > drawn.date():
        newest = now.times[1].date()
        raise ConfigError(
            f"--drawn {drawn.date()}: {now.name} holds a prediction of {newest}, which is later."
        )
    return limits.model_copy(update={"drawn": drawn.date()})


def _out(out: Path | None, run: Path | None) -> Path:
    if out is not None:
        return out
    if run is None:
        raise ConfigError("--out DIR is needed where RUN is a table.")
    return run / "monitor"


def _snapshots(
    reference: Path,
    run: Path | None,
    data: Path | None,
    since: datetime | None,
    attributes: list[str],
    quiet: bool,
) -> tuple[Snapshot, Snapshot]:
    import pandas as pd

    from clinimm.monitor.read_run import read_run
    from clinimm.monitor.read_table import read_divided, read_table

    if (data is None) == (since is None):
        raise ConfigError("give either --data PATH, or --since DATE with one table as RUN.")
    if since is not None:
        if run is not None:
            raise ConfigError("--since divides a table; a run is compared with --data.")
        return read_divided(reference, pd.Timestamp(since, tz="UTC"), attributes)
    assert data is not None  # one of the two was given
    before = read_table(reference, attributes) if run is None else read_run(run)
    return before, _now(run, data, attributes, quiet)


def _now(run: Path | None, data: Path, attributes: list[str], quiet: bool) -> Snapshot:
    from clinimm.monitor.read_run import is_run, read_run
    from clinimm.monitor.read_table import read_table

    if not data.is_dir():
        return read_table(data, attributes)
    if is_run(data):
        return read_run(data)
    if run is None:
        raise ConfigError(f"{data}: an export is scored by a run's model; RUN is a table.")
    from clinimm.monitor.score_data import score_folder
    from clinimm.progress import Progress
    from clinimm.settings import load_run, resolve

    return score_folder(resolve(load_run(run)), data, Progress(quiet))


def _deployed(run: Path | None) -> str | None:
    """Digest of the model that the run registered; None where it registered none."""
    from clinimm.register.registration import Registration

    registration = None if run is None else Registration.read(run / "register")
    return None if registration is None else registration.model_digest
