from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clinimm.core.errors import DataError
from clinimm.staining.fit_safety import fit_safety, pixel_errors
from tests.staining.safety_toy import RESOLUTION_UM, example, examples

SHARE = 0.1


def test_the_same_seed_gives_the_same_case() -> None:
    train, tuning = examples("a", 3), examples("b", 3, first=2000)
    once, again = (fit_safety(train, tuning, RESOLUTION_UM, SHARE, seed=3) for _ in range(2))
    assert once.to_json() == again.to_json()


def test_invalid_pixels_are_no_evidence() -> None:
    one = example(1, "a")
    valid = np.zeros_like(one.valid)
    valid[:10, :10] = True
    wrong = np.where(valid[..., None], one.target, 0)
    found = pixel_errors([replace(one, valid=valid, target=wrong)])[0]
    assert found.observed.shape == (100, 3)
    assert found.observed.mean() == pytest.approx(one.absolute_error()[valid].mean(), rel=1e-5)


def test_a_subject_on_both_sides_or_no_tile_is_refused_by_name() -> None:
    tiles = examples("a", 2, tiles=1)
    with pytest.raises(DataError, match="2 subjects are in training and tuning"):
        fit_safety(tiles, tiles, RESOLUTION_UM, SHARE)
    with pytest.raises(DataError, match="0 tuning"):
        fit_safety(tiles, [], RESOLUTION_UM, SHARE)
