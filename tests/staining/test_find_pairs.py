from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

from clinimm.cohort.spec import CohortSpec, load_cohort
from clinimm.core.event import EVENT_COLUMNS
from clinimm.staining.find_pairs import find_pairs

INDEX = datetime(2024, 5, 1, 12, tzinfo=UTC)
SPEC = Path(__file__).parents[2] / "pipelines" / "cohorts" / "virtual_staining.yaml"


def _slide(
    subject: str, stain: str, days: float, digest: str, block: str | None = "A1", stated: bool = True
) -> dict[str, object]:
    row: dict[str, object] = dict.fromkeys(EVENT_COLUMNS)
    return row | {
        "subject_id": subject,
        "time": pd.Timestamp(INDEX + timedelta(days=days)),
        "code": f"SLIDE//{stain}",
        "modality": "pathology",
        "category": "SM",
        "uri": f"sealed:{digest}",
        "digest": digest,
        "attributes": json.dumps({"stain_stated": stated} | ({"block": block} if block else {})),
    }


def _found(*slides: dict[str, object]) -> tuple[list[tuple[str, str, str, dict[str, str]]], int]:
    events = pd.DataFrame(list(slides), columns=list(EVENT_COLUMNS))
    events["time"] = events["time"].astype("datetime64[us, UTC]")
    events["until"] = events["until"].astype("datetime64[us, UTC]")
    subjects = sorted(events["subject_id"].unique())
    cohort = pd.DataFrame({"subject_id": subjects, "index_time": pd.Timestamp(INDEX)})
    cohort["index_time"] = cohort["index_time"].astype("datetime64[us, UTC]")
    spec: CohortSpec = load_cohort(SPEC)
    pairs, alone = find_pairs(events, cohort, spec, "HE")
    told = [
        (one.subject_id, one.block, one.source[0], {stain: slide[0] for stain, slide in one.targets.items()})
        for one in pairs
    ]
    return told, alone


def test_slides_of_the_same_block_are_a_pair() -> None:
    pairs, alone = _found(
        _slide("a", "HE", 0, "a-he"),
        _slide("a", "KI67", 1, "a-ki"),
        _slide("a", "PANCK", 2, "a-ck"),
        _slide("a", "KI67", 3, "a-ki-again"),  # the earliest stays
    )
    assert (pairs, alone) == ([("a", "A1", "a-he", {"KI67": "a-ki", "PANCK": "a-ck"})], 0)


def test_a_target_from_before_the_index_is_no_target() -> None:
    pairs, _ = _found(_slide("a", "HE", 0, "he"), _slide("a", "KI67", -0.5, "early"))
    assert pairs == []


def test_a_source_from_after_the_index_is_no_source() -> None:
    pairs, alone = _found(_slide("a", "HE", 0.5, "late"), _slide("a", "KI67", 1, "ki"))
    assert (pairs, alone) == ([], 1)


def test_another_block_is_no_pair_and_is_counted() -> None:
    pairs, alone = _found(_slide("a", "HE", 0, "he", "A1"), _slide("a", "KI67", 1, "ki", "B2"))
    assert (pairs, alone) == ([], 1)


def test_slides_without_a_block_are_paired_where_there_is_no_doubt() -> None:
    one, _ = _found(_slide("a", "HE", 0, "he", "A1"), _slide("a", "KI67", 1, "ki", None))
    assert one == [("a", "A1", "he", {"KI67": "ki"})]
    two, alone = _found(
        _slide("a", "HE", 0, "he1", "A1"),
        _slide("a", "HE", 0, "he2", "A2"),
        _slide("a", "KI67", 1, "ki", None),
    )
    assert (two, alone) == ([], 1)


def test_a_source_that_does_not_say_its_stain_is_no_source() -> None:
    """It may be the target itself, scanned again under another name."""
    pairs, alone = _found(_slide("a", "HE", 0, "he", stated=False), _slide("a", "KI67", 1, "ki"))
    assert (pairs, alone) == ([], 1)
