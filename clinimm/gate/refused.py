"""What the gate says when it refuses: a stable code and a sentence."""

from __future__ import annotations

from typing import Literal

from clinimm.core.errors import AuditGateError

Code = Literal[
    "no-approval",
    "expired-approval",
    "not-yet-valid",
    "too-long",
    "unknown-key",
    "expired-key",
    "bad-signature",
    "wrong-role",
    "other-act",
    "self-approval",
    "one-person-two-roles",
    "replayed-signature",
    "stale-digest",
    "other-policy",
    "other-intended-use",
    "revoked-approval",
    "ended-waiver",
    "audit-blocks",
    "unknown-author",
    "changed-files",
    "swapped-weights",
    "broken-log",
    "not-registered",
    "not-promoted",
    "superseded",
    "alias-guarded",
    "stage-guarded",
    "tag-guarded",
    "name-guarded",
]


class GateRefused(AuditGateError):
    """A model may not be registered, promoted or served.

    Args:
        code: stable short name of the reason.
        reason: what was found, what was expected and what to do.
    """

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(f"refused ({code}): {reason}")
        self.code, self.reason = code, reason
