"""The proposal to go back, on runs that the real gate registered and promoted in a real MLflow registry."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from clinimm.gate import actions
from clinimm.gate.approval import APPROVAL_SUFFIX
from clinimm.monitor.finding import BREACH, Scribe
from clinimm.monitor.incident import Incident, read_incidents, record_incident
from clinimm.monitor.plan import DriftPart
from clinimm.monitor.rollback import Proposal, propose
from tests.gate.conftest import Hospital, another_run, empty_store, hospital, registry, workspace

__all__ = ["empty_store", "hospital", "registry", "workspace"]


def _promoted(one: Hospital) -> Hospital:
    one.approve()
    one.register()
    one.promote()
    return one


@pytest.fixture
def two(registry: Hospital) -> tuple[Hospital, Hospital]:
    """A version that was the champion, and the one that followed it."""
    first = _promoted(registry)
    return first, _promoted(another_run(registry, "second", b"other weights", first.evidence().model_name))


def _propose(one: Hospital, incidents: list[Incident] | None = None) -> Proposal:
    return propose(one.root.parent, [one.evidence().model], incidents or [], one.governance)


def test_the_earlier_version_that_may_still_serve_is_proposed(two: tuple[Hospital, Hospital]) -> None:
    first, second = two
    found = _propose(second)
    assert (found.run, found.version, found.model_digest) == (first.root.name, 1, first.evidence().model)
    assert "Otto Auditor" in found.sentence and "Nothing was changed" in found.sentence


def test_nothing_is_earlier_than_the_first(two: tuple[Hospital, Hospital]) -> None:
    assert _propose(two[0]).run is None


def test_a_version_with_an_incident_is_no_place_to_go_back_to(
    two: tuple[Hospital, Hospital], tmp_path: Path
) -> None:
    breach = Scribe("drift", DriftPart()).write("ehr", BREACH, "moved", (0.4, 0.3, 0.5), n=9)
    digests = {"data": "d", "reference": "r", "plan": "p"}
    folder = tmp_path / "incidents"
    record_incident(folder, [breach], digests, [two[0].evidence().model], None, date(2026, 3, 4))
    assert _propose(two[1], read_incidents(folder)).run is None


def test_a_version_whose_approval_was_withdrawn_or_whose_files_changed_is_not_proposed(
    two: tuple[Hospital, Hospital],
) -> None:
    first, second = two
    weights = first.root / "train" / "model" / "model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(b"swapped")
    assert _propose(second).run is None
    weights.write_bytes(kept)
    assert _propose(second).run == first.root.name
    approval = next((first.root / "gate").glob(f"*{APPROVAL_SUFFIX}")).name.removesuffix(APPROVAL_SUFFIX)
    actions.revoke(first.root, approval, "left", first.governance, first.key("registrar"))
    assert _propose(second).run is None


def test_a_model_of_no_run_is_taken_out_of_use() -> None:
    assert "out of use" in propose(None, ["d"], []).sentence
