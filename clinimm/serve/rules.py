"""Who may do what: one line an address, and what has no line here is refused.

A reviewer reads this table and nothing else. A test asks for every address of the application as
every role, and fails where an address has no line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from clinimm.serve.identity import Role

CLINICIAN, DATA_SCIENTIST, AUDITOR = Role.CLINICIAN, Role.DATA_SCIENTIST, Role.AUDITOR
Pace = Literal["pages", "pictures", "writes", "sign_ins"]

_RUN = "/runs/{run}"
_PATIENT = _RUN + "/patients/{subject}"
_API_RUN = "/api/runs/{run}"
_API_PATIENT = _API_RUN + "/patients/{subject}"


@dataclass(frozen=True)
class Rule:
    """What one address asks of whoever asks for it.

    Attributes:
        roles: any of these suffices; empty is everybody, signed in or not.
        action: how the access log names it; None is entered by the page itself, with those whom it lists,
            or tells of nobody.
        pace: which limit counts it.
        reveals: whether it tells the model's answer for one patient.
        granted: whether only what was entered in the log by a page before is sent (slices, tiles).
    """

    roles: frozenset[Role]
    action: str | None = None
    pace: Pace = "pages"
    reveals: bool = False
    granted: bool = False

    @property
    def public(self) -> bool:
        """Whether nobody needs to sign in."""
        return not self.roles


def _rule(*roles: Role, **more: object) -> Rule:
    return Rule(frozenset(roles), **more)  # type: ignore[arg-type]  # the keywords are Rule's own


_ALL = (CLINICIAN, DATA_SCIENTIST, AUDITOR)
_READERS = (CLINICIAN, DATA_SCIENTIST)
_KEEPERS = (DATA_SCIENTIST, AUDITOR)

#: (method, address) -> rule.
RULES: dict[tuple[str, str], Rule] = {
    ("GET", "/alive"): _rule(),
    ("GET", "/static/{name}"): _rule(pace="pictures"),
    ("GET", "/sign-in"): _rule(pace="sign_ins"),
    ("GET", "/signed-in"): _rule(pace="sign_ins"),
    ("POST", "/sign-out"): _rule(*_ALL, action="sign-out", pace="writes"),
    ("GET", "/"): _rule(*_ALL),
    ("GET", _RUN): _rule(*_READERS),
    ("GET", _RUN + "/model-card"): _rule(*_ALL),
    ("GET", _RUN + "/model-card/page"): _rule(*_ALL),
    ("GET", _RUN + "/audit"): _rule(*_ALL),
    ("GET", _RUN + "/audit/page"): _rule(*_ALL),
    ("GET", _PATIENT): _rule(*_READERS, action="view-patient"),
    ("GET", _PATIENT + "/record"): _rule(*_READERS, action="view-record"),
    ("GET", _PATIENT + "/report"): _rule(*_READERS, action="view-report", reveals=True),
    ("GET", _PATIENT + "/series/{name}"): _rule(*_READERS, action="view-series"),
    ("GET", _PATIENT + "/series/{name}/{index}.png"): _rule(*_READERS, pace="pictures", granted=True),
    ("GET", _PATIENT + "/slides/{name}"): _rule(*_READERS, action="view-slide"),
    ("GET", _PATIENT + "/slides/{name}.dzi"): _rule(*_READERS, pace="pictures", granted=True),
    ("GET", _PATIENT + "/slides/{name}_files/{level}/{tile}.jpeg"): _rule(
        *_READERS, pace="pictures", granted=True
    ),
    ("POST", _PATIENT + "/impression"): _rule(CLINICIAN, pace="writes"),
    ("POST", _PATIENT + "/feedback"): _rule(CLINICIAN, pace="writes", reveals=True),
    ("POST", _PATIENT + "/explanation"): _rule(
        *_READERS, action="make-explanation", pace="writes", reveals=True
    ),
    ("GET", "/feedback"): _rule(*_KEEPERS),
    ("GET", "/access-log"): _rule(AUDITOR, action="view-access-log"),
    ("GET", "/api/openapi.json"): _rule(*_ALL),
    ("GET", "/api/session"): _rule(*_ALL),
    ("GET", "/api/runs"): _rule(*_ALL),
    ("GET", _API_RUN): _rule(*_ALL),
    ("GET", _API_RUN + "/predictions"): _rule(*_READERS),
    ("GET", _API_PATIENT + "/prediction"): _rule(*_READERS, action="view-prediction", reveals=True),
    ("GET", _API_PATIENT + "/explanation"): _rule(*_READERS, action="view-explanation", reveals=True),
    ("POST", _API_PATIENT + "/explanation"): _rule(
        *_READERS, action="make-explanation", pace="writes", reveals=True
    ),
    ("POST", _API_PATIENT + "/impression"): _rule(CLINICIAN, pace="writes"),
    ("POST", _API_PATIENT + "/feedback"): _rule(CLINICIAN, pace="writes", reveals=True),
    ("GET", "/api/feedback"): _rule(*_KEEPERS),
    ("GET", "/api/access-log/state"): _rule(AUDITOR, action="verify-access-log"),
}


def may(roles: frozenset[Role], method: str, address: str) -> bool:
    """Whether somebody with these roles may ask for an address; for links that are not shown else."""
    rule = RULES.get((method, address))
    return rule is not None and (rule.public or bool(rule.roles & roles))
