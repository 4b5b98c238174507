from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clinimm.core.errors import DataError
from clinimm.staining.pairs import check_pairs, stains_of
from tests.staining.toy_stain import draw_pair


def test_stains_are_collected_over_pairs() -> None:
    assert stains_of([draw_pair("a", 0, 32), draw_pair("b", 1, 32, ("CK",))]) == ("CK", "KI67")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": np.zeros((32, 32), np.uint8)}, "uint8 RGB is needed"),
        ({"source": np.zeros((32, 32, 3), np.float32)}, "uint8 RGB is needed"),
        (
            {"targets": {"CK": np.zeros((32, 30, 3), np.uint8)}},
            "CK of a/block-0 is uint8 .*30.*source is uint8",
        ),
        ({"valid": np.ones((32, 32), np.uint8)}, "bool .* is needed"),
    ],
)
def test_images_that_do_not_belong_together_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(draw_pair("a", 0, 32), **changes)  # type: ignore[arg-type]


def test_a_subject_on_both_sides_is_refused() -> None:
    with pytest.raises(DataError, match="subjects stand in training and in tuning: a"):
        check_pairs([draw_pair("a", 0, 32)], [draw_pair("a", 1, 32)], 0.5, False)


def test_generated_images_are_refused_unless_told_otherwise() -> None:
    made = draw_pair("a", 0, 32, synthetic=True)
    with pytest.raises(DataError, match=r"a/block-0 is marked as generated.*allow_synthetic_input"):
        check_pairs([made], [], 0.5, allow_synthetic=False)
    with pytest.raises(DataError, match="marked as generated"):
        check_pairs([draw_pair("b", 1, 32)], [made], 0.5, allow_synthetic=False)
    check_pairs([made], [], 0.5, allow_synthetic=True)
    # The simulated hospital is there to be learned from; it is synthetic all the same.
    check_pairs([replace(made, simulated=True)], [], 0.5, allow_synthetic=False)


def test_another_resolution_is_refused() -> None:
    with pytest.raises(DataError, match=r"0\.25 um a pixel, the model works at 0\.5"):
        check_pairs([draw_pair("a", 0, 32, resolution_um=0.25)], [], 0.5, False)


def test_nothing_to_learn_and_a_stain_never_seen_are_named() -> None:
    with pytest.raises(DataError, match="no training pair has a target"):
        check_pairs([], [], 0.5, False)
    with pytest.raises(DataError, match="no training pair has: CK"):
        check_pairs([draw_pair("a", 0, 32)], [draw_pair("b", 1, 32, ("CK",))], 0.5, False)
