from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from clinimm.core.errors import MissingStageError
from clinimm.corpus import Corpus
from tests.toy import DIM, toy_modalities, toy_table


@pytest.fixture(autouse=True)
def _toy() -> Iterator[None]:
    with toy_modalities():
        yield


def corpus() -> Corpus:
    return Corpus(
        {
            "a": toy_table(["x", "y", "z"], np.array([1.0, 2.0, 3.0]), 0),
            "b": toy_table(["y"], np.array([9.0]), 1, tokens=2),
        }
    )


STATISTICS = {"a": {"raw_dim": DIM}, "b": {"raw_dim": DIM}}


def test_tokens_follow_the_order_that_is_asked_for() -> None:
    tokens = corpus().batch(["z", "x"], STATISTICS)["a"]
    np.testing.assert_array_equal(tokens.values[1], corpus().batch(["x"], STATISTICS)["a"].values[0])
    assert tokens.mask.all()


def test_a_subject_without_the_modality_has_zero_tokens() -> None:
    tokens = corpus().batch(["x", "y"], STATISTICS)["b"]
    assert tokens.present.tolist() == [False, True]


def test_a_modality_that_the_corpus_lacks_is_all_masked_at_the_right_width() -> None:
    tokens = corpus().batch(["x"], {"c": {"raw_dim": 4}})["c"]
    assert tokens.values.shape == (1, 1, 4)
    assert not tokens.mask.any()


def test_rows_stand_in_the_order_of_the_tokens() -> None:
    rows = corpus().rows("y", "a")
    hours = corpus().batch(["y"], STATISTICS)["a"].time[0]
    np.testing.assert_array_equal(rows["time_hours"].to_numpy(np.float32), hours)


def test_a_folder_without_tokens_is_a_named_error(tmp_path: Path) -> None:
    with pytest.raises(MissingStageError, match="clinimm encode"):
        Corpus.load(tmp_path)
