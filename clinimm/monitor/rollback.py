"""Which registered version to go back to: a proposal for people, never an action."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clinimm.monitor.incident import Incident
from clinimm.register.registration import ALIAS, REGISTRATION_NAME, Registration


@dataclass(frozen=True)
class Proposal:
    """What is proposed.

    Attributes:
        run: folder name of the run that registered the version; None where there is none to go back to.
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


def propose(runs_dir: Path | None, models: Sequence[str], incidents: Sequence[Incident]) -> Proposal:
    """The newest other version that its audit let through and that no incident names.

    Args:
        runs_dir: folder of the runs, whose registrations are read; None where the model is no run's.
        models: digests of the models in use.
        incidents: all that were recorded; a version with one is no place to go back to.
    """
    blamed = {digest for one in incidents for digest in one.body["models"]} | set(models)
    registered = {} if runs_dir is None else _registered(runs_dir)
    mine = [one for one in registered.values() if one.model_digest in models]
    names = {one.model_name for one in mine}
    last = max((one.version for one in mine), default=None)
    good = [
        (one.version, run, one)
        for run, one in registered.items()
        if one.model_name in names
        and one.alias == ALIAS
        and one.model_digest not in blamed
        and last is not None
        and one.version < last
    ]
    if not good:
        return Proposal(
            None,
            None,
            None,
            None,
            "Proposal: take the model out of use until this is explained. No earlier registered version "
            "that passed its audit and has no incident was found. Nothing was changed.",
        )
    version, run, one = max(good, key=lambda row: row[:2])
    return Proposal(
        run,
        one.model_name,
        version,
        one.model_digest,
        f"Proposal: go back to version {version} of {one.model_name} (run {run}, model "
        f"{one.model_digest[:16]}), the last before it that passed its audit and has no incident. Nothing "
        "was changed: the people whom the plan names decide.",
    )


def _registered(runs_dir: Path) -> dict[str, Registration]:
    paths = sorted(runs_dir.glob(f"*/register/{REGISTRATION_NAME}"))
    found = {path.parent.parent.name: Registration.read(path.parent) for path in paths}
    return {run: one for run, one in found.items() if one is not None}
