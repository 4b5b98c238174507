"""The verbs around the gate: approving, registering, promoting and withdrawing a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clinimm.cli.common import Run, find_run

if TYPE_CHECKING:
    from clinimm.gate.approval import Approval
    from clinimm.gate.rules import Governance

EXIT_NOT_ALLOWED = 1

Folder = Annotated[
    Path | None,
    typer.Option("--governance", metavar="DIR", help="Folder of gate.yaml; default is governance."),
]
Key = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="A registrar's private key; default is your own.")
]


def add_to(app: typer.Typer) -> None:
    """Add this file's verbs."""
    app.command()(approve)
    gate = typer.Typer(no_args_is_help=True, help="Who may let a model be registered, promoted and served.")
    for name, verb in (
        ("keygen", keygen),
        ("request", request),
        ("add", add),
        ("status", status),
        ("register", register),
        ("promote", promote),
        ("champion", champion),
        ("revoke", revoke),
        ("log", log),
    ):
        gate.command(name)(verb)
    app.add_typer(gate, name="gate")


def approve(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run, or what `gate request` wrote.")],
    role: Annotated[
        str, typer.Option("--role", metavar="ROLE", help="As what: auditor, clinical_safety_officer.")
    ],
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="Your private key; it stays with you.")],
    days: Annotated[int, typer.Option("--days", metavar="N", min=1, help="How long it counts, days.")] = 180,
    comment: Annotated[str, typer.Option("--comment", metavar="TEXT", help="What you add, for people.")] = "",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where to write it; default is into the run.")
    ] = None,
    governance: Folder = None,
) -> None:
    """Sign that a model with its audit may be registered, promoted and served; works offline."""
    from clinimm.core.record import write_text
    from clinimm.gate import actions
    from clinimm.gate.evidence import gather

    rules = _governance(governance)
    root = None if run.is_file() else find_run(run)
    evidence = actions.read_request(run) if root is None else gather(root, rules)
    name, text = actions.approve(evidence, role, key, days, rules, comment)
    path = out or Path(name)
    if out is None and root is not None:
        (identifier,) = actions.add(root, {name: text}, rules)
        path = root / "gate" / f"{identifier}.sigstore.json"
    else:
        write_text(path, text)
    typer.echo(f"approved: {path}")
    typer.echo(f"run {evidence.run}, model {evidence.model[:16]}, audit {evidence.audit[:16]}")


def keygen(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The person, as gate.yaml will name them.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The private key.")],
    role: Annotated[
        str, typer.Option("--role", metavar="ROLE", help="What the person may sign as.")
    ] = "auditor",
    days: Annotated[int, typer.Option("--days", metavar="N", min=1, help="How long it counts, days.")] = 730,
) -> None:
    """Make a key pair (ECDSA P-256), and print what belongs into gate.yaml."""
    from datetime import UTC, datetime, timedelta

    from clinimm.core.errors import ConfigError
    from clinimm.core.keys import ECDSA, PUBLIC_SUFFIX, make_pair

    if not make_pair(out, ECDSA):
        raise ConfigError(f"{out}: there is a key already; it is never overwritten.")
    today = datetime.now(UTC).date()
    public = out.with_suffix(PUBLIC_SUFFIX).read_text(encoding="ascii")
    indented = "".join(f"          {line}\n" for line in public.splitlines())
    typer.echo(
        f"  - name: {name}\n    roles: [{role}]\n    keys:\n      - valid_from: {today}\n"
        f"        valid_until: {today + timedelta(days=days)}\n        public: |\n{indented}",
        nl=False,
    )


def request(
    run: Run,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write it.")],
    governance: Folder = None,
) -> None:
    """Write what is to be approved, for a machine that does not have the run."""
    from clinimm.core.record import write_text
    from clinimm.gate import actions

    write_text(out, actions.request(find_run(run), _governance(governance)))
    typer.echo(f"request: {out}; there: clinimm approve {out.name} --role ROLE --key FILE")


def add(
    run: Run,
    approvals: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Approvals signed elsewhere.")],
    governance: Folder = None,
) -> None:
    """Put approvals that were signed elsewhere into a run."""
    from clinimm.core.errors import ConfigError
    from clinimm.gate import actions

    if missing := [str(path) for path in approvals if not path.is_file()]:
        raise ConfigError(f"{', '.join(missing)}: there is no such file.")
    texts = {path.name: path.read_text(encoding="utf-8", errors="replace") for path in approvals}
    for identifier in actions.add(find_run(run), texts, _governance(governance)):
        typer.echo(f"added: {identifier}")


def status(
    run: Run,
    governance: Folder = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what a run is allowed, and what is missing; exits 1 where it may not be served."""
    from clinimm.gate.check import Allowed, approvals, standing
    from clinimm.gate.check import as_json as plain

    root = find_run(run)
    found = standing(root, _governance(governance))
    if as_json:
        typer.echo(json.dumps(plain(found), indent=1, sort_keys=True))
    else:
        for act, one in found.items():
            said = one.sentence if isinstance(one, Allowed) else str(one)
            typer.echo(f"{act:<9} {'allowed' if isinstance(one, Allowed) else 'no':<8} {said}")
        for name, approval in approvals(root).items():
            known = approval.identifier if approval else f"{name}: cannot be read"
            typer.echo(f"approval  {known}{_by(approval)}")
    if not isinstance(found["serve"], Allowed):
        raise typer.Exit(EXIT_NOT_ALLOWED)


def register(run: Run, governance: Folder = None, key: Key = None) -> None:
    """Register the model of an approved run as a version."""
    from clinimm.gate import actions

    filed = actions.register(find_run(run), _governance(governance), key)
    typer.echo(f"registered: version {filed.version}; log: {filed.head_number}:{filed.head_digest}")


def promote(run: Run, governance: Folder = None, key: Key = None) -> None:
    """Move the alias champion to the version of an approved run."""
    from clinimm.gate import actions

    filed = actions.promote(find_run(run), _governance(governance), key)
    typer.echo(f"champion: version {filed.version}; log: {filed.head_number}:{filed.head_digest}")


def champion(run: Run, governance: Folder = None) -> None:
    """Check that the registry's champion is this run, as the gate promoted it."""
    from clinimm.gate import actions

    allowed = actions.champion(find_run(run), _governance(governance))
    typer.echo(f"champion: {allowed.evidence.run}, {allowed.sentence}")


def revoke(
    run: Run,
    approval: Annotated[str, typer.Argument(metavar="APPROVAL", help="Its identifier.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the log.")],
    governance: Folder = None,
    key: Key = None,
) -> None:
    """Withdraw an approval; the model is not served from then on."""
    from clinimm.gate import actions

    head = actions.revoke(find_run(run), approval, reason, _governance(governance), key)
    typer.echo(f"revoked: {approval}; log: {head.number}:{head.digest}")


def log(
    runs: Annotated[Path, typer.Argument(metavar="RUNS", help="The folder of the runs.")] = Path("runs"),
    governance: Folder = None,
    head: Annotated[
        str | None,
        typer.Option("--head", metavar="NUMBER:SHA256", help="A head that you wrote down elsewhere."),
    ] = None,
) -> None:
    """Check that the gate's log is whole, and print it; exits 1 where it is not."""
    from clinimm.cli.common import parse_head
    from clinimm.core.check_log import read_lines
    from clinimm.gate.log import FORM, log_folder, verify

    folder = log_folder(runs)
    state = verify(folder, _governance(governance), parse_head(head))
    for line, _ in read_lines(folder / FORM.log_name):
        typer.echo(
            f"{line.get('number'):>4} {line.get('time')} {line.get('action'):<10} {line.get('model_name')} "
            f"version {line.get('version')} by {line.get('registrar')} {line.get('reason')}".rstrip()
        )
    for problem in state.problems:
        typer.echo(problem)
    typer.echo(f"gate's log: {'whole' if state.whole else 'NOT whole'}, n = {state.lines:,} lines")
    typer.echo(f"head: {state.head.number}:{state.head.digest}")
    if not state.whole:
        raise typer.Exit(EXIT_NOT_ALLOWED)


def _by(one: Approval | None) -> str:
    return f" by {one.person} ({one.role}) until {one.until.isoformat()}, as it says itself" if one else ""


def _governance(folder: Path | None) -> Governance:
    from clinimm.gate.rules import load_governance

    return load_governance(folder)
