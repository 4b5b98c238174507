import numpy as np
import pytest

from clinimm.staining import compare
from clinimm.staining.compare import Comparison
from clinimm.staining.deformation import IDENTITY, Deformation
from clinimm.staining.local_shifts import CELL, local_shifts, window_grid
from clinimm.staining.overviews import views_of
from clinimm.staining.picture import ArrayPicture
from tests.staining.registration_toy import UM, toy


@pytest.fixture
def seen() -> Comparison:
    pair = toy()
    both, _, tissue = views_of(ArrayPicture(pair.source, UM), ArrayPicture(pair.target, UM))
    return Comparison(both, tissue, seed=3)


def still(seen: Comparison) -> Deformation:
    return Deformation.still(IDENTITY, seen.extent_um, 12.5)


def test_it_sees_what_local_shifts_see_on_each_grid(seen: Comparison) -> None:
    deformation = still(seen)
    for look, odd in ((seen.to_fit, False), (seen.left_out, True)):
        points = window_grid(seen.tissue, seen.extent_um, CELL, compare.MOST_WINDOWS, odd)
        expected = local_shifts(seen.pair.at(CELL), deformation, CELL, points, 3)
        found = look(deformation, CELL)
        np.testing.assert_array_equal(found.shifts_um, expected.shifts_um)
        assert found.limit == expected.limit


def test_nothing_is_looked_at_twice(seen: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    deformation = still(seen)
    first = seen.left_out(deformation, CELL)

    def never(*_: object) -> None:
        raise AssertionError("looked at again")

    monkeypatch.setattr(compare, "local_shifts", never)
    assert seen.left_out(deformation, CELL) is first
    with pytest.raises(AssertionError, match="looked at again"):
        seen.left_out(still(seen), CELL)  # another map, though an equal one


def test_only_scales_that_the_slide_can_show_are_used(seen: Comparison) -> None:
    assert [scale.name for scale in seen.scales()] == ["cell"]
    assert seen.extent_um == (160.0, 160.0)
