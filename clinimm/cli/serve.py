"""The verbs around the web application: serving, its feedback, its access log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clinimm.cli.common import find_run, parse_head

EXIT_NOT_WHOLE = 1

Records = Annotated[
    Path | None,
    typer.Option("--records", metavar="DIR", help="Feedback and access log; default lies beside the runs."),
]

Key = Annotated[
    Path | None,
    typer.Option("--key", metavar="FILE", help="The signer's public key; default is your own."),
]


def add_to(app: typer.Typer) -> None:
    """Add this file's verbs."""
    app.command()(serve)
    feedback = typer.Typer(no_args_is_help=True, help="What clinicians said in the web application.")
    feedback.command("export")(feedback_export)
    app.add_typer(feedback, name="feedback")
    access_log = typer.Typer(no_args_is_help=True, help="Who saw and decided what in the web application.")
    access_log.command("verify")(access_log_verify)
    app.add_typer(access_log, name="access-log")


def serve(
    runs: Annotated[Path, typer.Argument(metavar="RUNS", help="A folder of runs, or one run.")] = Path(
        "runs"
    ),
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Sign-in, roles, limits; see the reference."),
    ] = None,
    single_user: Annotated[
        bool, typer.Option("--single-user", help="For one person on this machine, without a provider.")
    ] = False,
    host: Annotated[str, typer.Option("--host", metavar="HOST", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="PORT", min=0, max=65535, help="0 takes a free one.")
    ] = 8000,
    records: Records = None,
) -> None:
    """Serve signed runs as a web application: worklist, reports, pictures, feedback, JSON."""
    from clinimm.serve.run import check_transport, choose_settings, free_port
    from clinimm.serve.run import serve as run_server
    from clinimm.serve.settings import load_settings

    port = port or free_port(host)
    settings = choose_settings(load_settings(config) if config else None, single_user, host, port)
    check_transport(settings, host)
    run_server(_runs(runs), settings, host, port, records, typer.echo)


def feedback_export(
    runs: Annotated[Path, typer.Argument(metavar="RUNS", help="A folder of runs, or one run.")] = Path(
        "runs"
    ),
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The Parquet file.")] = Path(
        "proposals.parquet"
    ),
    records: Records = None,
    run: Annotated[str | None, typer.Option("--run", metavar="NAME", help="Of this run only.")] = None,
    with_comments: Annotated[
        bool, typer.Option("--with-comments", help="Free text too; it may name people.")
    ] = False,
    key: Key = None,
) -> None:
    """Write what clinicians said as proposed events; nothing reads them until somebody decides to."""
    from clinimm.serve.proposals import export

    found = export(_records(_runs(runs), records), out, run, with_comments, key)
    for problem in found.problems:
        typer.echo(problem)
    typer.echo(f"proposals: {out} (n = {found.count}); nothing applies them by itself")


def access_log_verify(
    runs: Annotated[Path, typer.Argument(metavar="RUNS", help="A folder of runs, or one run.")] = Path(
        "runs"
    ),
    records: Records = None,
    key: Key = None,
    head: Annotated[
        str | None,
        typer.Option("--head", metavar="NUMBER:SHA256", help="A head that you wrote down elsewhere."),
    ] = None,
) -> None:
    """Check that the access log is whole; exits 1 where it is not."""
    from clinimm.serve.access_check import verify_log

    state = verify_log(_records(_runs(runs), records), key, parse_head(head))
    for problem in state.problems:
        typer.echo(problem)
    whole = "whole" if state.whole else "NOT whole"
    typer.echo(f"access log: {whole}, n = {state.lines:,} lines, head signed by key {state.key_id}")
    typer.echo(f"head: {state.head.number}:{state.head.digest}")
    if not state.whole:
        raise typer.Exit(EXIT_NOT_WHOLE)


def _runs(given: Path) -> Path:
    """A folder of runs, the folder of a run, or a run's name below ``runs/``."""
    return given if given.is_dir() else find_run(given)


def _records(runs: Path, given: Path | None) -> Path:
    from clinimm.serve.records import RECORDS
    from clinimm.settings import PIPELINE_COPY

    if given is not None:
        return given
    return (runs.resolve().parent if (runs / PIPELINE_COPY).is_file() else runs) / RECORDS
