"""One small hospital that every test of the room reads."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from clinimm.simulate.hospital import find_scenario, write_hospital

SUBJECTS = 16
SEED = 5


@dataclass(frozen=True)
class Hospital:
    folder: Path
    truth: dict[str, Any]

    @property
    def patients(self) -> dict[str, dict[str, Any]]:
        return self.truth["patients"]

    def lines(self, kind: str) -> list[dict[str, Any]]:
        text = (self.folder / "fhir" / f"{kind}.ndjson").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def bundles(self) -> list[dict[str, Any]]:
        paths = sorted((self.folder / "fhir" / "bundles").glob("*.json"))
        return [json.loads(path.read_text(encoding="utf-8")) for path in paths]

    def resources(self, kind: str) -> list[dict[str, Any]]:
        """Of the bulk export and the bundles."""
        entries = [entry["resource"] for bundle in self.bundles() for entry in bundle["entry"]]
        return self.lines(kind) + [entry for entry in entries if entry["resourceType"] == kind]


@pytest.fixture(scope="session")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    """A mixed hospital in which every rare thing is common."""
    knobs = replace(
        find_scenario("mixed"), bundle=0.3, loose_notes=0.3, second_film=0.4, late_facts=True, no_film=0.1
    )
    folder = tmp_path_factory.mktemp("hospital")
    write_hospital(folder, knobs, SUBJECTS, SEED)
    return Hospital(folder, json.loads((folder / "truth.json").read_text(encoding="utf-8")))
