import numpy as np
import pytest

from clinimm.simulate.tissue_cells import GLAND, LYMPHOCYTE, STROMA, TUMOUR, Nuclei, join
from clinimm.simulate.tissue_layout import Layout, draw_layout
from clinimm.simulate.tissue_nuclei import DrawnNuclei, place_nuclei, propose_nuclei
from clinimm.simulate.tissue_plan import TissuePlan

_PLAN = TissuePlan(pixels=448, glands=0.5, lymphocytes_per_mm2=2000)


@pytest.fixture(scope="module")
def placed() -> tuple[Layout, DrawnNuclei]:
    generator = np.random.default_rng(5)
    layout = draw_layout(_PLAN, generator)
    return layout, place_nuclei(propose_nuclei(_PLAN, layout, generator), layout.side, 0.5, generator)


def test_every_type_lies_where_it_belongs(placed):
    layout, drawn = placed
    nuclei = drawn.table
    points = np.stack([nuclei.column, nuclei.row], axis=1)
    depth, gland = layout.at(layout.depth_um, points), layout.at(layout.gland, points)
    assert layout.at(layout.solid, points).all()
    assert (depth[nuclei.of_kind(TUMOUR)] > 0).all()
    assert not gland[nuclei.of_kind(TUMOUR)].any()
    assert gland[nuclei.of_kind(GLAND)].all()
    assert (depth[nuclei.of_kind(GLAND)] < 9).all()
    assert (depth[nuclei.of_kind(STROMA)] < 0).all()
    assert (depth[nuclei.of_kind(LYMPHOCYTE)] < 0).mean() > 0.7
    assert min(nuclei.of_kind(kind).sum() for kind in range(4)) > 10


def test_labels_do_not_overlap_and_name_the_table(placed):
    _, drawn = placed
    assert np.array_equal(np.unique(drawn.labels), np.arange(len(drawn.table) + 1))
    own = drawn.labels[np.round(drawn.table.row).astype(int), np.round(drawn.table.column).astype(int)]
    assert np.array_equal(own, 1 + np.arange(len(drawn.table)))
    assert drawn.haematoxylin[drawn.labels > 0].min() > 0
    assert (drawn.haematoxylin[drawn.labels == 0] > 0.2).mean() < 0.03


def test_spindles_lie_along_the_fibres(placed):
    layout, drawn = placed
    spindles = drawn.table.take(drawn.table.of_kind(STROMA))
    fibre = layout.at(layout.fibre_angle, np.stack([spindles.column, spindles.row], axis=1))
    assert np.cos(2 * (spindles.angle - fibre)).min() > 0.85


def test_active_tumour_has_larger_and_darker_nuclei():
    means = []
    for activity in (0.2, 0.8):
        plan = TissuePlan(pixels=448, activity=activity)
        generator = np.random.default_rng(5)
        nuclei = propose_nuclei(plan, draw_layout(plan, generator), generator)
        tumour = nuclei.take(nuclei.of_kind(TUMOUR))
        means.append((tumour.radius_um.mean(), tumour.chromatin.mean()))
    assert means[1][0] > means[0][0] + 0.4
    assert means[1][1] > means[0][1] + 0.3


def test_tables_are_cut_and_joined_by_row(placed):
    nuclei: Nuclei = placed[1].table
    tumour, others = nuclei.of_kind(TUMOUR), ~nuclei.of_kind(TUMOUR)
    again = join([nuclei.take(tumour), nuclei.take(others)])
    assert sorted(again.column) == sorted(nuclei.column)
    assert set(nuclei.take(tumour).types()) == {"tumour"}
    assert len(again) == len(nuclei) == len(again.types())
