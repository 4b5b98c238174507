"""Cells read in the part in which a stain lies, against tissue of which every positive cell is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from clinimm.simulate.tissue import Tissue, draw_tissue
from clinimm.simulate.tissue_plan import StainPlan, TissuePlan
from clinimm.staining.biology import REAL, measure_stain
from clinimm.staining.compartment import Compartment, cell_signal, compartment_of
from clinimm.staining.nuclei import Nuclei, find_nuclei, match_points
from clinimm.staining.optical import Signal, stain_amount
from clinimm.staining.pairs import StainPair

MARKERS = ("KI67", "PANCK", "HER2", "CD3")


@pytest.fixture(scope="module")
def tissue() -> Tissue:
    stains = tuple(StainPlan(marker, seed=place) for place, marker in enumerate(MARKERS))
    return draw_tissue(TissuePlan(pixels=384, seed=2, stains=stains))


@pytest.mark.parametrize("marker", MARKERS)
def test_a_cell_is_told_positive_wherever_its_stain_lies(tissue: Tissue, marker: str) -> None:
    section, nuclei = tissue.sections[marker], find_nuclei(tissue.he, 0.5)
    drawn = np.column_stack([section.nuclei.row, section.nuclei.column])
    own, found = match_points(nuclei.centres, drawn, 8.0)
    held = cell_signal(stain_amount(section.rgb, Signal.DAB), nuclei, 3.0)
    assert len(own) > 100
    assert roc_auc_score(section.positivity.positive[found], held[own]) > 0.98


@pytest.mark.parametrize("marker", ["KI67", "PANCK"])
def test_positivity_of_a_section_is_that_of_its_cells(tissue: Tissue, marker: str) -> None:
    pair = StainPair("s", "a", tissue.he, tissue.ihc, np.ones((384, 384), dtype=bool), 0.5)
    measured = measure_stain([pair], marker, {})
    known = tissue.sections[marker].positivity_index
    assert measured.images["positivity_index"].iloc[0] == pytest.approx(known, abs=0.08)
    assert (measured.nuclei[REAL] >= 0.2).mean() == pytest.approx(known, abs=0.12)


def test_the_ring_belongs_to_the_nearer_nucleus_and_ends_at_its_reach() -> None:
    labels = np.zeros((21, 40), np.int32)
    labels[9:12, 9:12], labels[9:12, 16:19] = 1, 2  # four pixels apart, so none is as near to both
    plane = np.random.default_rng(0).random(labels.shape).astype(np.float32)
    plane[labels > 0] = 0
    distance = np.stack([ndimage.distance_transform_edt(labels != label) for label in (1, 2)])
    rings = [(distance[own] <= 3) & (labels == 0) & (distance[own] < distance[1 - own]) for own in (0, 1)]
    assert (distance[0][rings[1]] <= 3).any()  # within reach of both
    found = cell_signal(plane, Nuclei(labels, 0.5), 1.5)
    np.testing.assert_allclose(found, [plane[ring].mean() for ring in rings], rtol=1e-5)


def test_no_nucleus_and_no_ring_hold_nothing() -> None:
    plane = np.ones((8, 8), np.float32)
    assert cell_signal(plane, Nuclei(np.zeros((8, 8), np.int32), 0.5), 3.0).tolist() == []
    assert cell_signal(plane, Nuclei(np.ones((8, 8), np.int32), 0.5), 3.0).tolist() == [1.0]


def test_nuclear_antigens_are_read_in_nuclei_and_the_others_in_cells() -> None:
    assert {compartment_of(name) for name in ("Ki-67", "A1//ER", "DAPI", "HE")} == {Compartment.NUCLEUS}
    assert {compartment_of(name) for name in ("PANCK", "CD3", "HER2", "IHC")} == {Compartment.CELL}
