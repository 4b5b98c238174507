from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from clinimm.core.errors import DataError
from clinimm.staining.crops import CropPlan, CropSource
from clinimm.staining.pairs import StainPair
from clinimm.tasks.virtual_staining import StainTask
from tests.staining.toy_stain import draw_pair

TASK = StainTask(("CK", "KI67"))
PAIRS = [
    draw_pair("a", 0, 80, ("KI67",)),
    draw_pair("a", 1, 64, ("CK", "KI67")),
    draw_pair("b", 2, 96, ("CK",)),
]


def marked(pair: StainPair) -> StainPair:
    """Every pixel of source and target says where it is."""
    rows, columns = pair.source.shape[:2]
    place = np.stack([*np.mgrid[:rows, :columns], np.full((rows, columns), 200)], axis=2).astype(np.uint8)
    return replace(pair, source=place, targets={stain: place for stain in pair.targets})


def test_source_target_and_mask_turn_together() -> None:
    pair = marked(PAIRS[0])
    pair = replace(pair, valid=pair.source[..., 1] < 40)
    crops = CropSource([pair], TASK, 32)
    plans = [
        CropPlan(0, 1, 10, 20, quarter_turns=turns, flip=flip) for turns in range(4) for flip in (False, True)
    ]
    batch = crops.cut(plans)
    assert torch.equal(batch.source, batch.target)
    assert torch.equal(batch.known, (batch.source[:, 1] * 255).round() < 40)
    # All eight are different views of the same square.
    assert len({tuple(one.flatten().tolist()) for one in batch.source}) == 8
    assert all(
        torch.equal(one.flatten(1).sort().values, batch.source[0].flatten(1).sort().values)
        for one in batch.source
    )
    upright = batch.source[0].mul(255).round()
    assert (upright[0].min(), upright[1].min()) == (10, 20)


def test_crops_lie_on_tissue_that_is_valid() -> None:
    pair = PAIRS[2]
    source, valid = pair.source.copy(), pair.valid.copy()
    source[:, :48] = 250  # glass
    valid[:48] = False
    crops = CropSource([replace(pair, source=source, valid=valid)], TASK, 16)
    plans = crops.draw(200, np.random.default_rng(0), ["b"])
    assert min(plan.row for plan in plans) >= 48 - 8
    assert min(plan.column for plan in plans) >= 48 - 8
    assert max(plan.row for plan in plans) <= 96 - 16


def test_subjects_count_alike_and_may_be_drawn_more_often() -> None:
    crops = CropSource(PAIRS, TASK, 32)
    assert crops.subjects == ("a", "b")
    plans = crops.draw(400, np.random.default_rng(1), ["a", "b"])
    share = np.mean([PAIRS[plan.pair].subject_id == "a" for plan in plans])
    assert 0.4 < share < 0.6  # though a has two pairs of three
    assert {plan.pair for plan in crops.draw(20, np.random.default_rng(1), ["b", "b"])} == {2}


def test_a_pair_is_asked_only_for_stains_that_it_has() -> None:
    crops = CropSource(PAIRS, TASK, 32)
    for plan in crops.draw(100, np.random.default_rng(2), crops.subjects):
        assert TASK.stains[plan.stain] in PAIRS[plan.pair].targets


def test_elsewhere_keeps_the_stain_and_leaves_the_place() -> None:
    crops = CropSource(PAIRS, TASK, 32)
    random = np.random.default_rng(3)
    plans = crops.draw(60, random, crops.subjects)
    others = crops.elsewhere(plans, random)
    assert [one.stain for one in others] == [one.stain for one in plans]
    assert np.mean([one.pair != plan.pair for one, plan in zip(others, plans, strict=True)]) > 0.2
    batch = crops.cut(plans, others)
    assert batch.subjects == tuple(PAIRS[plan.pair].subject_id for plan in plans)


def test_what_was_drawn_can_be_drawn_again() -> None:
    crops = CropSource(PAIRS, TASK, 32)
    one, two = (crops.draw(9, np.random.default_rng(4), crops.subjects) for _ in range(2))
    assert one == two
    assert crops.spread(7) == crops.spread(7)


def test_the_spread_has_every_pair_and_stain_in_turn() -> None:
    plans = CropSource(PAIRS, TASK, 32).spread(8)
    assert {(plan.pair, plan.stain) for plan in plans} == {(0, 1), (1, 0), (1, 1), (2, 0)}
    assert len(plans) == 8


def test_images_that_are_too_small_or_empty_are_named() -> None:
    glass = replace(PAIRS[0], source=np.full((80, 80, 3), 245, np.uint8))
    with pytest.raises(DataError, match="none of 2 pairs has 72 x 72 pixels around tissue"):
        CropSource([glass, PAIRS[1]], TASK, 72)
