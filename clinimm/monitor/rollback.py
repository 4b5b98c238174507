"""Which registered version to go back to: a proposal for people, never an action."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clinimm.gate.check import FILED_NAME, GATE_FOLDER, Filed, could_return
from clinimm.gate.rules import Governance
from clinimm.monitor.incident import Incident
from clinimm.register.registration import Registration


@dataclass(frozen=True)
class Proposal:
    """What is proposed.

    Attributes:
        run: folder name of the run whose version it is; None where there is none to go back to.
        model_name, version, model_digest: of that version.
        sentence: for people.
    """

    run: str | None
    model_name: str | None
    version: int | None
    model_digest: str | None
    sentence: str

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def propose(
    runs_dir: Path | None,
    models: Sequence[str],
    incidents: Sequence[Incident],
    governance: Governance | None = None,
) -> Proposal:
    """The newest earlier version that the gate would let be promoted and served, and that no incident names.

    Args:
        runs_dir: folder of the runs, with what the gate filed in them; None where the model is no run's.
        models: digests of the models in use.
        incidents: all that were recorded; a version with one is no place to go back to.
        governance: whom the gate trusts; None is the folder that it looks into itself.
    """
    blamed = {digest for one in incidents for digest in one.body["models"]} | set(models)
    filed = [] if runs_dir is None else _filed(runs_dir)
    mine = [one for one in filed if one.model_digest in models]
    names = {one.model_name for one in mine}
    last = max((one.version for one in mine), default=0)
    earlier = [
        one
        for one in filed
        if one.model_name in names and one.model_digest not in blamed and one.version < last
    ]
    for one in sorted(earlier, key=lambda found: (-found.version, found.root.name)):
        allowed = could_return(one.root, governance)
        if allowed is not None:
            return _to(one, allowed.sentence)
    return Proposal(
        None,
        None,
        None,
        None,
        "Proposal: take the model out of use until this is explained. No earlier version was found that is "
        "still approved for service and has no incident. Nothing was changed.",
    )


@dataclass(frozen=True)
class _Version:
    root: Path
    model_name: str
    model_digest: str
    version: int


def _to(one: _Version, approved: str) -> Proposal:
    return Proposal(
        one.root.name,
        one.model_name,
        one.version,
        one.model_digest,
        f"Proposal: go back to version {one.version} of {one.model_name} (run {one.root.name}, model "
        f"{one.model_digest[:16]}), the last before it that may still serve ({approved}) and has no "
        "incident. Nothing was changed: the people whom the plan names decide.",
    )


def _filed(runs_dir: Path) -> list[_Version]:
    roots = [path.parent.parent for path in sorted(runs_dir.glob(f"*/{GATE_FOLDER}/{FILED_NAME}"))]
    found = [(root, Filed.read(root), Registration.read(root / "register")) for root in roots]
    return [
        _Version(root, registration.model_name, registration.model_digest, filed.version)
        for root, filed, registration in found
        if filed is not None and registration is not None
    ]
