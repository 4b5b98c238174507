from __future__ import annotations

import numpy as np
import pytest

from clinimm.core.errors import DataError
from clinimm.staining.region_view import Region, RegionView
from tests.staining.explain_toy import RESOLUTION_UM, draw_source


def test_a_region_sees_itself_and_its_halo_on_the_grid() -> None:
    view = RegionView.of(draw_source(), Region(40, 21, 10, 16), 12, 8, RESOLUTION_UM)
    assert view.place == (slice(24, 64), slice(8, 56))
    assert view.inside == (slice(16, 26), slice(13, 29))
    assert view.image.shape == view.blurred.shape == (1, 3, 40, 48)
    assert view.origin == (24, 8)


def test_cells_are_sums_and_hiding_them_blurs_them_alone() -> None:
    source = draw_source()
    view = RegionView.of(source, Region(40, 24, 16, 16), 8, 8, RESOLUTION_UM)
    pixels = np.arange(96.0 * 96).reshape(96, 96)
    scores, distance = view.cells(pixels)
    assert scores.reshape(2, 2)[0, 1] == pixels[32:48, 32:48].sum()
    np.testing.assert_allclose(distance, np.full(4, np.hypot(8, 8)))
    hidden = view.without(np.array([False, True, False, False]))
    changed = (hidden != view.image).any(dim=1)[0].numpy()
    assert not changed[16:].any()
    assert not changed[:, :16].any()
    assert changed[:16, 16:].mean() > 0.9


def test_a_region_outside_the_source_is_refused_by_name() -> None:
    for region in (Region(90, 0, 16, 16), Region(-1, 0, 4, 4), Region(0, 0, 0, 4)):
        with pytest.raises(DataError, match="outside the source"):
            RegionView.of(draw_source(), region, 8, 8, RESOLUTION_UM)
    with pytest.raises(DataError, match="multiples of 8"):
        RegionView.of(draw_source()[:90], Region(84, 0, 6, 6), 8, 8, RESOLUTION_UM)
