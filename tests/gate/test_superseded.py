"""Only the champion is served: the model that the gate's log tells was promoted last under its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from clinimm.gate.check import could_return, release_of, standing
from clinimm.gate.next_step import next_step
from clinimm.gate.refused import GateRefused
from tests.gate.conftest import Hospital, another_run
from tests.gate.test_ways_round import _serve, _withdraw

pytest.importorskip("mlflow")


@pytest.fixture
def two(registry: Hospital) -> tuple[Hospital, Hospital]:
    """An earlier champion and the one that followed it, under one name."""
    registry.approve()
    registry.register()
    registry.promote()
    second = another_run(registry, "second", b"other weights", "hand")
    second.approve()
    assert (second.register(), second.promote()) == (2, 2)
    return registry, second


def test_earlier_champion_is_not_served(two: tuple[Hospital, Hospital]) -> None:
    first, second = two
    assert (_serve(first), _serve(second)) == ("superseded", "")
    assert release_of(first.root) is None  # its pages say that it is for research
    found = standing(first.root, first.governance)["serve"]
    assert isinstance(found, GateRefused) and "version 2 of hand (run second)" in found.reason


def test_the_way_back_is_another_promotion(two: tuple[Hospital, Hospital]) -> None:
    first, second = two
    assert could_return(first.root) is not None
    said = next_step(first.root, standing(first.root, first.governance))
    assert f"clinimm gate promote {first.root}" in said
    first.promote()
    assert (_serve(first), _serve(second)) == ("", "superseded")


def test_withdrawn_champion_does_not_bring_back_the_one_before(two: tuple[Hospital, Hospital]) -> None:
    """Nobody looked at it again; a registrar decides."""
    first, second = two
    _withdraw(second)
    assert (_serve(first), _serve(second)) == ("superseded", "revoked-approval")


def test_what_was_never_promoted_is_no_way_back(registry: Hospital) -> None:
    registry.approve()
    registry.register()
    assert could_return(registry.root) is None


def test_champions_of_two_names_are_both_served(two: tuple[Hospital, Hospital], tmp_path: Path) -> None:
    third = another_run(two[0], "third", b"for something else")
    third.approve()
    third.register()
    third.promote()
    assert (_serve(two[1]), _serve(third)) == ("", "")


def test_the_next_step_at_each_step(registry: Hospital) -> None:
    def said() -> str:
        return next_step(registry.root, standing(registry.root, registry.governance))

    assert "nobody approved as auditor: clinimm approve" in said()
    registry.sign("auditor")
    assert f"clinimm gate register {registry.root}" in said()
    registry.register()
    assert "nobody approved as clinical_safety_officer: clinimm approve" in said()
    registry.sign("clinical_safety_officer")
    assert f"clinimm gate promote {registry.root}" in said()
    registry.promote()
    assert said() == "nothing; it is served"
