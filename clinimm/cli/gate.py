"""The verbs around the gate: approving, registering, promoting and withdrawing a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clinimm.cli.common import Run, find_run

if TYPE_CHECKING:
    from clinimm.gate.approval import Approval
    from clinimm.gate.rules import Governance

EXIT_NOT_ALLOWED = 1
_ROLES = "author, auditor, clinical_safety_officer, clinical_lead or registrar"
_STEPS = """Who may let a model be registered, promoted and served.

In this order; `clinimm gate status RUN` says at any time what comes next:

1. keygen: each person makes a key, once, and gate.yaml lists it.

2. clinimm approve: an auditor and a clinical safety officer read and sign.

3. register, then promote: a registrar files what they approved.

4. champion: checks that this very model is in use. revoke stops it.
"""

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
    gate = typer.Typer(no_args_is_help=True, help=_STEPS)
    for name, verb in (
        ("keygen", keygen),
        ("request", request),
        ("add", add),
        ("status", status),
        ("register", register),
        ("promote", promote),
        ("champion", champion),
        ("revoke", revoke),
        ("countersign", countersign),
        ("log", log),
    ):
        gate.command(name)(verb)
    app.add_typer(gate, name="gate")


def approve(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run, or what `gate request` wrote.")],
    role: Annotated[
        str,
        typer.Option(
            "--role",
            metavar="ROLE",
            help="As what: auditor, clinical_safety_officer or clinical_lead, as gate.yaml lists you.",
        ),
    ],
    key: Annotated[
        Path, typer.Option("--key", metavar="FILE", help="Your private key, as `gate keygen` made it.")
    ],
    days: Annotated[int, typer.Option("--days", metavar="N", min=1, help="How long it counts, days.")] = 180,
    comment: Annotated[str, typer.Option("--comment", metavar="TEXT", help="What you add, for people.")] = "",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where to write it; default is into the run.")
    ] = None,
    governance: Folder = None,
) -> None:
    """Sign that you read a model's audit and card, and that it may be used; works offline.

    Read audit/audit.html and report/model_card.html of the run first. You sign this model with this audit;
    when either changes, your approval counts no more. It can be withdrawn: clinimm gate revoke.
    """
    from clinimm.core.errors import ConfigError
    from clinimm.core.record import write_text
    from clinimm.gate import actions
    from clinimm.gate.check import standing
    from clinimm.gate.evidence import gather
    from clinimm.gate.next_step import next_step

    rules = _governance(governance)
    root = None if run.is_file() else find_run(run)
    if not key.is_file():
        raise ConfigError(
            f"{key}: there is no such key. If you have none: clinimm gate keygen NAME --role {role} --out "
            f"{key.name}"
        )
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
    if out is None and root is not None:
        typer.echo(f"next: {next_step(root, standing(root, rules))}")
    else:
        typer.echo(f"next: bring {path.name} to the run: clinimm gate add {evidence.run} {path.name}")


def keygen(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The person, as gate.yaml will name them.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The private key.")],
    role: Annotated[
        str, typer.Option("--role", metavar="ROLE", help=f"What the person may sign as: {_ROLES}.")
    ] = "auditor",
    days: Annotated[int, typer.Option("--days", metavar="N", min=1, help="How long it counts, days.")] = 730,
) -> None:
    """Make a person's key, and print their entry for gate.yaml.

    Two files: the private key (FILE), which only that person ever holds, and its public half (.pub). The key
    is ECDSA P-256, without a passphrase: keep it where only you can read.
    """
    from datetime import UTC, datetime, timedelta
    from typing import get_args

    from clinimm.core.errors import ConfigError
    from clinimm.core.keys import ECDSA, PUBLIC_SUFFIX, make_pair
    from clinimm.gate.rules import Role

    if role not in get_args(Role):
        raise ConfigError(f"--role {role}: there is no such role; expected {_ROLES}.")
    if out.suffix == PUBLIC_SUFFIX:
        raise ConfigError(f"{out}: the public half is written there; give the private key another ending.")
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
    typer.echo(
        f"{out} is the private key: keep it to yourself. The lines above belong under `people` in gate.yaml; "
        "give them to whoever keeps that file.",
        err=True,
    )


def request(
    run: Run,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write it.")],
    governance: Folder = None,
) -> None:
    """Write a request, to approve on another machine.

    For a signer whose machine has no network or not the run: carry the file there, approve it, and bring
    the approval back (clinimm gate add).
    """
    from clinimm.core.record import write_text
    from clinimm.gate import actions

    write_text(out, actions.request(find_run(run), _governance(governance)))
    typer.echo(f"request: {out}; there: clinimm approve {out.name} --role ROLE --key FILE")


def add(
    run: Run,
    approvals: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Approvals signed elsewhere.")],
    governance: Folder = None,
) -> None:
    """Bring approvals that were signed elsewhere."""
    from clinimm.core.errors import ConfigError
    from clinimm.gate import actions

    if missing := [str(path) for path in approvals if not path.is_file()]:
        raise ConfigError(f"{', '.join(missing)}: there is no such file.")
    texts = {path.name: path.read_text(encoding="utf-8", errors="replace") for path in approvals}
    for identifier in actions.add(find_run(run), texts, _governance(governance)):
        typer.echo(f"added: {identifier}")
    _say_next(find_run(run), governance)


def status(
    run: Run,
    governance: Folder = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what a run is allowed, and what comes next.

    Exits 1 where it may not be served.
    """
    from clinimm.gate.check import Allowed, approvals, standing
    from clinimm.gate.check import as_json as plain
    from clinimm.gate.next_step import next_step

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
        typer.echo(f"next      {next_step(root, found)}")
    if not isinstance(found["serve"], Allowed):
        raise typer.Exit(EXIT_NOT_ALLOWED)


def register(run: Run, governance: Folder = None, key: Key = None) -> None:
    """Give an approved model a version.

    For a registrar. Run it again after a crash: it ends what was begun, and makes no second version.
    """
    from clinimm.gate import actions

    filed = actions.register(find_run(run), _governance(governance), key)
    typer.echo(f"registered: version {filed.version}; log: {filed.head_number}:{filed.head_digest}")
    _say_next(find_run(run), governance)


def promote(run: Run, governance: Folder = None, key: Key = None) -> None:
    """Put an approved version into use.

    For a registrar: moves the alias champion to it. From then on it is the one that is served under its
    name, and the one before is not; promote that one again to go back.
    """
    from clinimm.gate import actions

    filed = actions.promote(find_run(run), _governance(governance), key)
    typer.echo(f"champion: version {filed.version}; log: {filed.head_number}:{filed.head_digest}")


def champion(run: Run, governance: Folder = None) -> None:
    """Check that this very model is in use.

    Compares the approvals, the gate's log, and the alias and files in the registry; exits 2 where they
    differ.
    """
    from clinimm.gate import actions

    allowed = actions.champion(find_run(run), _governance(governance))
    typer.echo(f"champion: {allowed.evidence.run}, {allowed.sentence}")


def revoke(
    run: Run,
    approval: Annotated[
        str, typer.Argument(metavar="APPROVAL", help="Its identifier; `gate status RUN` names it.")
    ],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the log.")],
    governance: Folder = None,
    key: Key = None,
) -> None:
    """Withdraw an approval, and stop the model.

    For a registrar. It counts no more, for anything; the model is not served from then on.
    """
    from clinimm.gate import actions

    head = actions.revoke(find_run(run), approval, reason, _governance(governance), key)
    typer.echo(f"revoked: {approval}; log: {head.number}:{head.digest}")


def countersign(
    runs: Annotated[Path, typer.Argument(metavar="RUNS", help="The folder of the runs.")] = Path("runs"),
    head: Annotated[
        str, typer.Option("--head", metavar="NUMBER:SHA256", help="The head that `gate log` printed.")
    ] = "",
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the log.")] = "",
    governance: Folder = None,
    key: Key = None,
) -> None:
    """Take over a log whose registrar left.

    For another registrar: read the log (clinimm gate log), every line, and sign its end with your own key.
    You vouch for all lines up to the head that you give. Nothing is served before, once the key that signed
    the end has ended.
    """
    from clinimm.cli.common import parse_head
    from clinimm.core.errors import ConfigError
    from clinimm.gate import actions

    seen = parse_head(head or None)
    if seen is None or not reason.strip():
        raise ConfigError(
            f"give --head NUMBER:SHA256, as `clinimm gate log {runs}` prints it, and --reason TEXT."
        )
    made = actions.countersign(runs, seen, reason, _governance(governance), key)
    typer.echo(f"countersigned: {seen.number} lines; log: {made.number}:{made.digest}")


def log(
    runs: Annotated[Path, typer.Argument(metavar="RUNS", help="The folder of the runs.")] = Path("runs"),
    governance: Folder = None,
    head: Annotated[
        str | None,
        typer.Option("--head", metavar="NUMBER:SHA256", help="A head that you wrote down elsewhere."),
    ] = None,
) -> None:
    """Print the gate's log, and check it.

    Exits 1 where it is not whole. Write the head that it prints down, away from this machine.
    """
    from clinimm.cli.common import parse_head
    from clinimm.core.check_log import read_lines
    from clinimm.core.errors import ConfigError
    from clinimm.core.record import digest_file
    from clinimm.gate.log import FORM, log_folder, verify
    from clinimm.gate.rules import GATE_NAME

    folder, rules = log_folder(runs), _governance(governance)
    if not (folder / FORM.log_name).is_file():
        raise ConfigError(f"{folder}: no log yet. It begins with clinimm gate register RUN.")
    state = verify(folder, rules, parse_head(head))
    before = None
    for line, _ in read_lines(folder / FORM.log_name):
        if before is not None and line.get("rules") != before:
            typer.echo(f"{'':>4} gate.yaml was changed between these two lines")
        before = line.get("rules") or before
        typer.echo(
            f"{line.get('number'):>4} {line.get('time')} {line.get('action'):<13} {_what(line)}by "
            f"{line.get('registrar')} {line.get('reason')}".rstrip()
        )
    if before is not None and before != digest_file(rules.folder / GATE_NAME):
        typer.echo(f"{'':>4} gate.yaml was changed after the last line")
    for problem in state.problems:
        typer.echo(problem)
    typer.echo(f"gate's log: {'whole' if state.whole else 'NOT whole'}, n = {state.lines:,} lines")
    typer.echo(f"head: {state.head.number}:{state.head.digest}")
    if not state.whole:
        raise typer.Exit(EXIT_NOT_ALLOWED)


def _what(line: Mapping[str, Any]) -> str:
    version = line.get("version")
    return f"{line.get('model_name') or ''} {'' if version is None else f'version {version} '}".lstrip()


def _say_next(root: Path, governance: Path | None) -> None:
    from clinimm.gate.check import standing
    from clinimm.gate.next_step import next_step

    typer.echo(f"next: {next_step(root, standing(root, _governance(governance)))}")


def _by(one: Approval | None) -> str:
    return f" by {one.person} ({one.role}) until {one.until.isoformat()}, as it says itself" if one else ""


def _governance(folder: Path | None) -> Governance:
    from clinimm.gate.rules import load_governance

    return load_governance(folder)
