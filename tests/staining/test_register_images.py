"""Images in memory made into a pair."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clinimm.datasets.stain_pairs import StainImages
from clinimm.simulate.tissue import draw_tissue
from clinimm.simulate.tissue_plan import StainPlan, TissuePlan
from clinimm.staining.register_images import as_they_lie, register_images

UM = 0.5
SHIFT = (6, 10)  # rows, columns: 5.8 um


@pytest.fixture(scope="module")
def images() -> StainImages:
    """A tissue and its immunostain, moved by a known shift; a second stain of other tissue."""
    plans = [
        TissuePlan(pixels=384, um_per_pixel=UM, seed=seed, stains=(StainPlan("KI67"),)) for seed in (1, 2)
    ]
    tissue, other = (draw_tissue(plan) for plan in plans)
    moved = np.roll(tissue.sections["KI67"].aligned, SHIFT, axis=(0, 1))
    known = np.ones((384, 384), dtype=bool)
    known[:, :40] = False
    targets = {"KI67": moved, "CD31": other.sections["KI67"].aligned}
    return StainImages("subject 1", "tile", "HE", tissue.he, targets, dict.fromkeys(targets, known))


@pytest.mark.slow
@pytest.mark.parametrize("magnified", [1.0, 2.0])
def test_a_shifted_stain_is_moved_back_and_a_strange_one_is_left_out(
    images: StainImages, magnified: float
) -> None:
    found = register_images(images, UM / magnified, magnified=magnified)
    assert found.pair is not None and list(found.pair.targets) == ["KI67"]
    assert [one.item for one in found.refusals] == ["CD31"]
    # In true micrometres, however large the registration was told the tissue is.
    before, after = found.before["KI67"].p50_um, found.after["KI67"].p50_um
    true_um = np.hypot(*SHIFT) * UM / magnified
    assert before == pytest.approx(true_um, abs=0.5 / magnified) and after is not None and after < 0.5
    truth = np.roll(images.targets["KI67"], (-SHIFT[0], -SHIFT[1]), axis=(0, 1))
    inside = np.s_[60:320, 60:320]
    missed = np.abs(found.pair.targets["KI67"][inside].astype(int) - truth[inside]).mean()
    assert missed < 0.4 * np.abs(images.targets["KI67"][inside].astype(int) - truth[inside]).mean()
    # What the file did not hold moves along: columns below 40 of the target are below 30 of the source.
    assert not found.pair.valid[:, :28].any() and found.pair.valid[20:360, 34:360].all()


@pytest.mark.slow
def test_pairs_of_others_are_taken_as_they_lie_and_measured(images: StainImages) -> None:
    found = as_they_lie(images, UM)
    assert found.pair is not None and not found.refusals
    assert np.array_equal(found.pair.targets["KI67"], images.targets["KI67"])
    assert np.array_equal(found.pair.valid, images.known["KI67"])
    assert found.after["KI67"].p50_um == pytest.approx(np.hypot(*SHIFT) * UM, abs=0.5)
    small = replace(images, targets={"KI67": images.targets["KI67"][:-8]})
    refused = as_they_lie(small, UM)
    assert refused.pair is None and [one.code for one in refused.refusals] == ["other-size"]
