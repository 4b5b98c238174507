"""What somebody does next so that a run may be served: one sentence, with the command."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from clinimm.gate.check import Allowed
from clinimm.gate.log import REGISTERED
from clinimm.gate.refused import GateRefused
from clinimm.gate.rules import ACTS, Act


def next_step(root: Path, standing: Mapping[Act, Allowed | GateRefused]) -> str:
    """The first thing that is missing, in the order in which it can be done.

    Args:
        root: the run.
        standing: of the run, from ``check.standing``.
    """
    for act in ACTS:
        one = standing[act]
        if isinstance(one, Allowed):
            if act == "register" and one.log.last(REGISTERED, one.evidence) is None:
                return f"a registrar runs: clinimm gate register {root} --key FILE"
        elif one.code in ("not-promoted", "superseded"):
            return f"a registrar runs: clinimm gate promote {root} --key FILE"
        else:
            return one.reason
    return "nothing; it is served"
