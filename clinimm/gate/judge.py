"""Which approvals count for an act: pure functions over what was read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from clinimm.core.bundle import check_bundle
from clinimm.core.errors import IntegrityError
from clinimm.gate.approval import Approval, Evidence, parse_approval
from clinimm.gate.refused import GateRefused
from clinimm.gate.rules import NOT_APPROVING, Act, Governance, Key, Person

#: How far the signer's clock may be ahead of ours.
_CLOCKS = timedelta(minutes=10)


@dataclass(frozen=True)
class Judged:
    """One approval, judged.

    Attributes:
        name: its file.
        approval: None where it cannot be read.
        refused: why it does not count; None where it does.
    """

    name: str
    approval: Approval | None
    refused: GateRefused | None


def judge_all(
    texts: Mapping[str, str],
    evidence: Evidence,
    governance: Governance,
    revoked: Collection[str],
    now: datetime,
) -> list[Judged]:
    """Judge every approval by itself.

    Args:
        texts: file -> bundle as JSON.
        evidence: what lies there now.
        governance: whom the gate trusts.
        revoked: identifiers of approvals that were withdrawn.
        now: UTC.
    """
    return [_judged(name, text, evidence, governance, revoked, now) for name, text in texts.items()]


def require(judged: Iterable[Judged], act: Act, governance: Governance) -> tuple[Approval, ...]:
    """The approvals that let an act through, one a role that the rules ask for.

    Raises:
        GateRefused: a role is missing; where an approval in that role does not count, for its reason.
    """
    judged = list(judged)
    chosen: list[Approval] = []
    for role in governance.rules.acts[act]:
        of_role = [one for one in judged if one.approval is not None and one.approval.role == role]
        # Those not judged to be wrong may still be by somebody who signed in another role already.
        good = [one.approval for one in of_role if one.refused is None and one.approval is not None]
        acting = [approval for approval in good if act in approval.acts]
        if not acting:
            raise _why_missing(role, act, of_role, judged)
        others = {approval.person for approval in chosen}
        fresh = [approval for approval in acting if approval.person not in others]
        if not fresh:
            raise GateRefused(
                "one-person-two-roles",
                f"{acting[0].person} approved in two roles; {act} needs a person for each.",
            )
        chosen.append(max(fresh, key=lambda approval: approval.until))
    return tuple(chosen)


def _why_missing(role: str, act: Act, of_role: list[Judged], judged: list[Judged]) -> GateRefused:
    for one in of_role:
        if one.refused is not None:
            return GateRefused(one.refused.code, f"{act}: approval {one.name}: {one.refused.reason}")
    if of_role:
        return GateRefused("other-act", f"{act}: the {role} approved something else ({of_role[0].name}).")
    unread = next((one.refused for one in judged if one.approval is None and one.refused), None)
    if unread is not None:
        return GateRefused(unread.code, f"{act}: nobody approved as {role}, and {unread.reason}")
    return GateRefused(
        "no-approval", f"{act}: nobody approved as {role}: clinimm approve RUN --role {role} --key FILE."
    )


def _judged(
    name: str,
    text: str,
    evidence: Evidence,
    governance: Governance,
    revoked: Collection[str],
    now: datetime,
) -> Judged:
    approval = None
    try:
        approval = parse_approval(text, name)
        person, key = _signer(approval, governance)
        _check_time(approval, key, governance.rules.longest_days, now)
        _check_person(approval, person, evidence, governance)
        _check_evidence(approval.evidence, evidence)
        if approval.identifier in revoked:
            raise GateRefused("revoked-approval", f"{approval.person} or another withdrew it; see the log.")
    except GateRefused as refused:
        return Judged(name, approval, refused)
    except IntegrityError as error:
        return Judged(name, approval, GateRefused("bad-signature", str(error)))
    return Judged(name, approval, None)


def _signer(approval: Approval, governance: Governance) -> tuple[Person, Key]:
    found = governance.by_hint(approval.bundle.hint)
    if found is None:
        raise GateRefused(
            "unknown-key",
            f"signed by key {approval.bundle.hint[:16]}, which {governance.folder.name}/gate.yaml lists for "
            "nobody.",
        )
    check_bundle(approval.bundle, found[1].key)
    return found


def _check_time(approval: Approval, key: Key, longest_days: int, now: datetime) -> None:
    today, made = now.date(), approval.made.astimezone(UTC).date()
    if approval.made > now + _CLOCKS:
        raise GateRefused("not-yet-valid", f"it says it was signed at {approval.made.isoformat()}.")
    if today > approval.until:
        raise GateRefused("expired-approval", f"it ended on {approval.until}; a new one must be signed.")
    if (approval.until - made).days > longest_days:
        raise GateRefused("too-long", f"it would last until {approval.until}; at most {longest_days} days.")
    if not (key.counts(today) and key.counts(made)):
        raise GateRefused(
            "expired-key", f"its key counts from {key.valid_from} until {key.valid_until} and no longer."
        )


def _check_person(approval: Approval, person: Person, evidence: Evidence, governance: Governance) -> None:
    if approval.person != person.name:
        raise GateRefused("unknown-key", f"it says {approval.person}, and its key belongs to {person.name}.")
    if approval.role in NOT_APPROVING or approval.role not in person.roles:
        may = ", ".join(role for role in person.roles if role not in NOT_APPROVING) or "nothing"
        raise GateRefused(
            "wrong-role",
            f"{person.name} may not approve as {approval.role}, but as {may}.",
        )
    author = governance.by_text(evidence.author_key)
    if author is None:
        raise GateRefused("unknown-author", "the key that signed the run is listed for nobody.")
    if author[0].name == person.name:
        raise GateRefused("self-approval", f"{person.name} made this run and cannot approve it.")


def _check_evidence(approved: Evidence, now: Evidence) -> None:
    if (approved.run, approved.model_name) != (now.run, now.model_name):
        raise GateRefused(
            "replayed-signature",
            f"it was signed for run {approved.run} ({approved.model_name}), not for {now.run} "
            f"({now.model_name}).",
        )
    if approved.policy != now.policy:
        raise GateRefused("other-policy", "it was signed for an audit under another policy.")
    if approved.intended_use != now.intended_use:
        raise GateRefused("other-intended-use", "it was signed for another text of the intended use.")
    for what in ("model", "files", "artifact", "audit", "manifest", "author_key"):
        if getattr(approved, what) != getattr(now, what):
            raise GateRefused(
                "stale-digest",
                f"it was signed for another {what.replace('_', ' ')} than lies here now; the run was made "
                "again since, or this approval is of another run of that name.",
            )
