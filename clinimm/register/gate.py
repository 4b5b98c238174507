"""What the audit lets a run become: nothing without an audit, a candidate only where it passed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clinimm.core.errors import AuditGateError

PASSED = 0
BROKEN = 1


@dataclass(frozen=True)
class Decision:
    """What the audit means for a model.

    Attributes:
        candidate: whether it may be proposed to those who approve.
        reason: why, or why not, in one sentence.
    """

    candidate: bool
    reason: str


def decide(
    audit: Mapping[str, Any] | None, audited: Mapping[str, str], predictions: Mapping[str, str]
) -> Decision:
    """Whether a model is tracked at all, and whether as a candidate.

    Args:
        audit: the content of ``audit.json``, or None where there is none. Its ``exit_status`` is 0
            where nothing blocks: every rule holds, or the policy lets what is undecided pass.
        audited: path -> SHA-256 of what the audit read, by its record.
        predictions: path -> SHA-256 of the tables that the audit must have read, as they are now.

    Raises:
        AuditGateError: the audit is missing, or judged other predictions than these.
    """
    if audit is None:
        raise AuditGateError("no model is registered without its audit: run `clinimm audit PIPELINE` first.")
    other = [name for name, digest in predictions.items() if audited.get(name) != digest]
    if other:
        raise AuditGateError(
            f"the audit judged another {', '.join(other)} than lies in this run: run `clinimm audit "
            "PIPELINE` again."
        )
    status = audit.get("exit_status")
    if status == PASSED:
        return Decision(True, "the audit found nothing that blocks it")
    if status == BROKEN:
        return Decision(False, "the audit found the policy broken")
    return Decision(False, "the audit could not decide, and the policy does not let that pass")
