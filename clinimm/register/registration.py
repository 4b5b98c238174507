"""``register/registration.json``: where a run is tracked, and whether its model may be proposed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from clinimm.core.errors import DataError
from clinimm.core.record import write_text
from clinimm.register.gate import Decision

REGISTRATION_NAME = "registration.json"


@dataclass(frozen=True)
class Registration:
    """One tracked model. Which version it has, and who approved it, stands in ``gate/filed.json``.

    Attributes:
        model_name: name under which the gate may register it.
        run_id: the tracking run that holds parameters, metrics, figures and the model's files.
        tracking_uri: where that is.
        source: where the model's files are, for MLflow.
        model_id: MLflow's name of the logged model; None for files that MLflow cannot run.
        candidate: whether the audit lets it be proposed to those who approve.
        reason: why it does or does not.
        sentence: all of that for people.
        model_digest: SHA-256 over the model's files.
        manifest_digest: SHA-256 of the signed manifest.
        key_id: short name of the key that signed it.
        registered: UTC, ISO 8601.
    """

    model_name: str
    run_id: str
    tracking_uri: str
    source: str
    model_id: str | None
    candidate: bool
    reason: str
    sentence: str
    model_digest: str
    manifest_digest: str
    key_id: str
    registered: str

    def write(self, folder: Path) -> None:
        """Write it into ``folder``."""
        write_text(folder / REGISTRATION_NAME, json.dumps(asdict(self), indent=1, sort_keys=True) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Registration | None:
        """The registration in ``folder``, or None; one of a version without a gate counts as none."""
        path = folder / REGISTRATION_NAME
        if not path.is_file():
            return None
        value = json.loads(path.read_text(encoding="utf-8"))
        return cls(**value) if "candidate" in value else None


def sentence(run: str, decision: Decision) -> str:
    """What a person reads after the register stage."""
    if not decision.candidate:
        return f"{run} is no candidate: {decision.reason}."
    return (
        f"{run} is a candidate: {decision.reason}. It is not registered before it is approved "
        f"(clinimm gate status {run})."
    )


def last_candidate(runs_dir: Path) -> Path:
    """The run below ``runs_dir`` whose model became a candidate last.

    Raises:
        DataError: none did.
    """
    found = [
        (registration.registered, path.parent.parent)
        for path in runs_dir.glob(f"*/register/{REGISTRATION_NAME}")
        if (registration := Registration.read(path.parent)) is not None and registration.candidate
    ]
    if not found:
        raise DataError(f"no run in {runs_dir} has a candidate; name a run: clinimm audit RUN.")
    return max(found)[1]
