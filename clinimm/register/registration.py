"""``register/registration.json``: under which name and version a model stands in the registry."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from clinimm.core.errors import DataError
from clinimm.core.record import write_text

REGISTRATION_NAME = "registration.json"
ALIAS = "candidate"


@dataclass(frozen=True)
class Registration:
    """One registered version.

    Attributes:
        model_name: name in the registry.
        version: version under that name.
        run_id: the tracking run that holds parameters, metrics and figures.
        tracking_uri: where both are.
        alias: ``candidate`` where the alias moved to this version, else None.
        reason: why it moved or did not.
        sentence: all of that for people.
        model_digest: SHA-256 over the model's files.
        manifest_digest: SHA-256 of the signed manifest.
        key_id: short name of the key that signed it.
        registered: UTC, ISO 8601.
    """

    model_name: str
    version: int
    run_id: str
    tracking_uri: str
    alias: str | None
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
        """The registration in ``folder``, or None."""
        path = folder / REGISTRATION_NAME
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def last_candidate(runs_dir: Path) -> Path:
    """The run below ``runs_dir`` whose model became a candidate last.

    Raises:
        DataError: none did.
    """
    found = [
        (registration.registered, path.parent.parent)
        for path in runs_dir.glob(f"*/register/{REGISTRATION_NAME}")
        if (registration := Registration.read(path.parent)) is not None and registration.alias == ALIAS
    ]
    if not found:
        raise DataError(f"no run in {runs_dir} has a registered candidate; name a run: clinimm audit RUN.")
    return max(found)[1]
