import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, gaussian_filter, sobel

from clinimm.simulate.tissue_layout import Layout, draw_layout
from clinimm.simulate.tissue_paint import draw_ground
from clinimm.simulate.tissue_plan import TissuePlan


def _layout(**knobs: float) -> Layout:
    return draw_layout(TissuePlan(pixels=512, **knobs), np.random.default_rng(1))  # type: ignore[arg-type]


def test_shares_are_as_planned():
    layout = _layout(tissue=0.8, epithelium=0.4, glands=0.5)
    assert layout.tissue.mean() == pytest.approx(0.8, abs=0.02)
    assert (layout.depth_um > 0).mean() == pytest.approx(0.4, abs=0.04)
    assert not (layout.gland & (layout.depth_um <= 0)).any()
    assert not (layout.lumen & ~layout.gland).any()
    assert not (layout.firm & ~layout.solid).any()


def test_depth_is_the_distance_to_stroma_in_micrometres():
    layout = _layout(epithelium=0.4)
    away_um = distance_transform_edt(layout.depth_um > 0) * layout.step * 0.5
    deep = away_um > 6
    assert np.abs(layout.depth_um - away_um)[deep].max() < 3.5


def test_a_finer_resolution_has_the_same_cells_in_micrometres():
    fine = draw_layout(TissuePlan(pixels=512, um_per_pixel=0.25), np.random.default_rng(1))
    assert fine.step * 0.25 == _layout().step * 0.5 == 2.0


def test_fibres_run_where_the_map_says():
    """The texture's gradient stands across the stated direction (structure tensor)."""
    layout = _layout(tissue=1.0, epithelium=0.05)
    eosin = draw_ground(layout, 0.5, np.random.default_rng(2)).eosin
    down, right = sobel(eosin, 0), sobel(eosin, 1)
    tensor = [gaussian_filter(part, 6) for part in (right * right, right * down, down * down)]
    across = 0.5 * np.arctan2(2 * tensor[1], tensor[0] - tensor[2])
    rows, columns = np.mgrid[20 : len(eosin) - 20 : 7, 20 : len(eosin) - 20 : 7].reshape(2, -1)
    points = 2 * np.stack([columns, rows], axis=1)
    stated = layout.at(layout.fibre_angle, points)
    alike = np.cos(2 * (across[rows, columns] - stated))[
        layout.at(layout.solid & (layout.depth_um < -4), points)
    ]
    assert np.mean(alike) < -0.8  # the gradient is at a right angle to the fibre
