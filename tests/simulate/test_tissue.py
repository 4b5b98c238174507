from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, map_coordinates
from skimage.color import rgb2hed
from skimage.measure import label, regionprops
from sklearn.metrics import roc_auc_score

from clinimm.simulate.artefacts import Artefact
from clinimm.simulate.misregister import Misregistration
from clinimm.simulate.tissue import STAINED_FROM, Tissue, draw_tissue
from clinimm.simulate.tissue_cells import CELL_TYPES, LYMPHOCYTE, STROMA, TUMOUR
from clinimm.simulate.tissue_plan import StainPlan, TissuePlan, plan_tissue

#: skimage counts stain amounts in units of six decades.
_DECADES = 6


@pytest.fixture(scope="module")
def tissue() -> Tissue:
    stains = (StainPlan("KI67", seed=4), StainPlan("PANCK", seed=5))
    return draw_tissue(plan_tissue(np.random.default_rng(2), 512, stains))


def test_the_same_plan_draws_the_same_tissue(tissue):
    again = draw_tissue(tissue.plan)
    assert np.array_equal(again.he, tissue.he)
    assert all(np.array_equal(again.ihc[name], tissue.ihc[name]) for name in tissue.ihc)
    other = draw_tissue(replace(tissue.plan, seed=tissue.plan.seed + 1))
    assert not np.array_equal(other.he, tissue.he)


@pytest.mark.parametrize("um_per_pixel", [0.25, 0.5])
def test_skimage_counts_the_nuclei_of_the_table(um_per_pixel):
    for seed in range(3):
        plan = plan_tissue(np.random.default_rng(seed), 384, ())
        tissue = draw_tissue(replace(plan, um_per_pixel=um_per_pixel))
        assert label(tissue.labels > 0, connectivity=1).max() == len(tissue.nuclei) > 20


def test_skimage_measures_the_places_and_sizes_of_the_table(tissue):
    nuclei, side = tissue.nuclei, tissue.plan.pixels
    regions = regionprops(tissue.labels)
    assert len(regions) == len(nuclei)
    centre = np.array([region.centroid for region in regions])
    assert np.abs(centre[:, 1] - nuclei.column).max() < 1
    assert np.abs(centre[:, 0] - nuclei.row).max() < 1
    whole = np.array([min(r.bbox) > 0 and max(r.bbox) < side for r in regions])
    radius = np.sqrt([region.area / np.pi for region in regions]) * tissue.plan.um_per_pixel
    assert np.median(np.abs(radius / nuclei.radius_um - 1)[whole]) < 0.03
    thin = nuclei.of_kind(STROMA) & whole
    assert (
        np.mean([r.axis_major_length / r.axis_minor_length for r, t in zip(regions, thin, strict=True) if t])
        > 2.5
    )


def test_h_and_e_shows_the_types_as_they_are(tissue):
    haematoxylin = rgb2hed(tissue.he)[..., 0] * _DECADES
    nuclei = tissue.nuclei
    mean = (
        np.bincount(tissue.labels.ravel(), haematoxylin.ravel())[1:] / np.bincount(tissue.labels.ravel())[1:]
    )
    assert mean[nuclei.of_kind(LYMPHOCYTE)].mean() > 1.2 * mean[nuclei.of_kind(TUMOUR)].mean()
    assert (
        nuclei.radius_um[nuclei.of_kind(TUMOUR)].mean()
        > 1.4 * nuclei.radius_um[nuclei.of_kind(LYMPHOCYTE)].mean()
    )
    tumour = nuclei.of_kind(TUMOUR)
    assert np.corrcoef(mean[tumour], nuclei.chromatin[tumour])[0, 1] > 0.8
    between = haematoxylin[(tissue.labels == 0) & tissue.tissue].mean()
    assert mean.mean() > 2 * between


def test_nuclei_are_found_in_the_pixels_by_a_threshold(tissue):
    """Dice of a threshold on the red channel against the planted masks."""
    found = tissue.he[..., 0] < 150
    planted = tissue.labels > 0
    assert 2 * (found & planted).sum() / (found.sum() + planted.sum()) > 0.85


def test_glass_is_white_and_tissue_is_not(tissue):
    inside = binary_erosion(tissue.tissue, iterations=4)
    outside = binary_erosion(~tissue.tissue & (tissue.labels == 0), iterations=4)
    assert tissue.he[outside].min() > 225
    assert (tissue.he[inside].min(axis=1) < 225).mean() > 0.9


@pytest.mark.parametrize("marker", ["KI67", "PANCK"])
def test_the_stained_area_is_what_rgb2hed_measures(tissue, marker):
    section = tissue.sections[marker]
    measured = rgb2hed(section.aligned)[..., 2] * _DECADES >= STAINED_FROM
    planted = section.stained_area
    assert 2 * (measured & planted).sum() / (measured.sum() + planted.sum()) > 0.93
    assert measured.mean() == pytest.approx(planted.mean(), rel=0.08)


def test_positive_nuclei_and_their_density_are_measured_in_the_pixels(tissue):
    section = tissue.sections["KI67"]
    brown = rgb2hed(section.aligned)[..., 2] * _DECADES
    labels = section.labels.ravel()
    mean = np.bincount(labels, brown.ravel())[1:] / np.bincount(labels)[1:]
    positive, intensity = section.positivity.positive, section.positivity.intensity
    assert roc_auc_score(positive, mean) > 0.995
    assert np.mean(mean > 0.15) == pytest.approx(section.positivity_index, abs=0.02)
    assert np.corrcoef(mean[positive], intensity[positive])[0, 1] > 0.9
    assert np.median(mean[positive] / intensity[positive]) == pytest.approx(0.9, abs=0.1)


def test_cytoplasm_is_stained_around_positive_nuclei_and_not_in_them(tissue):
    section = tissue.sections["PANCK"]
    brown = rgb2hed(section.aligned)[..., 2] * _DECADES
    core = binary_erosion(section.labels > 0, iterations=3)
    assert brown[core].mean() < 0.12
    assert brown[section.stained_area].mean() > 0.3


def test_the_rule_changes_the_dab_and_nothing_else(tissue):
    tossed = tuple(replace(stain, rule="undetermined") for stain in tissue.plan.stains)
    other = draw_tissue(replace(tissue.plan, stains=tossed))
    assert np.array_equal(other.he, tissue.he)
    assert np.array_equal(other.labels, tissue.labels)
    ours, theirs = tissue.sections["KI67"], other.sections["KI67"]
    negative = ~np.isin(
        ours.labels, 1 + np.flatnonzero(ours.positivity.positive | theirs.positivity.positive)
    )
    negative = binary_erosion(negative, iterations=8)
    assert np.abs(ours.aligned.astype(int) - theirs.aligned)[negative].max() <= 1
    assert not np.array_equal(ours.positivity.positive, theirs.positivity.positive)


def test_two_stains_of_one_seed_are_tossed_apart():
    stains = tuple(StainPlan(marker, "undetermined") for marker in ("KI67", "HER2"))
    tissue = draw_tissue(TissuePlan(pixels=384, seed=8, stains=stains))
    first, second = (tissue.sections[name].positivity.positive for name in ("KI67", "HER2"))
    assert not np.array_equal(first, second)


def test_a_moved_section_is_the_aligned_one_at_known_places():
    move = Misregistration((6.0, -4.0), 1.0, 3.0, 7)
    tissue = draw_tissue(TissuePlan(pixels=384, seed=5, stains=(StainPlan("KI67", move=move),)))
    section = tissue.sections["KI67"]
    offset = section.offset()
    rows, columns = np.mgrid[:384, :384]
    back = [rows + offset[1], columns + offset[0]]
    looked_up = map_coordinates(section.aligned[..., 0].astype(float), back, order=1, cval=np.nan)
    known = np.isfinite(looked_up)
    assert known.mean() > 0.8
    seen = section.rgb[..., 0].astype(float)
    assert np.abs(looked_up - seen)[known].mean() < 4
    assert np.abs(section.aligned[..., 0].astype(float) - seen).mean() > 8
    assert (section.rgb[~known].min(axis=1) < 225).any()  # at the edges the neighbouring tissue shows


def test_landmarks_agree_with_the_movement():
    move = Misregistration((6.0, -4.0), 1.0, 3.0, 7)
    section = draw_tissue(TissuePlan(pixels=384, seed=5, stains=(StainPlan("KI67", move=move),))).sections[
        "KI67"
    ]
    source, target = section.landmarks(20)
    assert 12 <= len(source) == len(target) <= 20
    offset = section.offset()
    found = target + np.stack([map_coordinates(part, target[:, ::-1].T, order=1) for part in offset], axis=1)
    assert np.abs(found - source).max() < 0.05
    assert np.hypot(*np.ptp(source, axis=0)) > 350


def test_a_consecutive_section_shares_some_nuclei():
    plan = TissuePlan(pixels=384, seed=6, stains=(StainPlan("KI67", shared_nuclei=0.6),))
    tissue = draw_tissue(plan)
    section = tissue.sections["KI67"]
    assert len(section.nuclei) == pytest.approx(len(tissue.nuclei), rel=0.25)
    assert label(section.labels > 0, connectivity=1).max() == len(section.nuclei)
    ours = np.stack([tissue.nuclei.column, tissue.nuclei.row], axis=1)
    theirs = np.stack([section.nuclei.column, section.nuclei.row], axis=1)
    nearest = np.hypot(*(ours[:, None] - theirs[None]).transpose(2, 0, 1)).min(axis=1)
    assert 0.45 < (nearest < 4).mean() < 0.85


def test_artefacts_are_planted_where_the_masks_say():
    pen = Artefact("pen", pen="green", size=0.05)
    plan = TissuePlan(
        pixels=256,
        seed=3,
        artefacts=(pen,),
        stains=(StainPlan("KI67", artefacts=(Artefact("gap", size=0.05),)),),
    )
    clean = draw_tissue(replace(plan, artefacts=()))
    spoiled = draw_tissue(plan)
    assert set(spoiled.artefacts) == {"pen"}
    assert np.array_equal(
        (clean.he != spoiled.he).any(axis=2) | spoiled.artefacts["pen"], spoiled.artefacts["pen"]
    )
    section = spoiled.sections["KI67"]
    assert set(section.artefacts) == {"gap"}
    assert not np.array_equal(section.rgb, section.aligned)
    assert np.array_equal(section.rgb[~section.artefacts["gap"]], section.aligned[~section.artefacts["gap"]])


def test_a_block_without_epithelium_or_nuclei_is_drawn():
    plan = TissuePlan(pixels=64, seed=1, tissue=0.0, lymphocytes_per_mm2=0.0)
    tissue = draw_tissue(plan)
    assert tissue.he.min() > 200
    assert len(tissue.nuclei) <= len(CELL_TYPES)
    empty = tissue.sections["KI67"]
    assert len(empty.nuclei) > 0 or np.isnan(empty.positivity_index)
