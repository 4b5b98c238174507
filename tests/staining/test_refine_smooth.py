from collections.abc import Iterator

import numpy as np
import pytest

from clinimm.staining.compare import Comparison
from clinimm.staining.deformation import IDENTITY, Affine, Deformation
from clinimm.staining.local_shifts import CELL, REGION, TISSUE, LocalShifts, Scale
from clinimm.staining.overviews import views_of
from clinimm.staining.picture import ArrayPicture
from clinimm.staining.refine_smooth import LEAST_JACOBIAN, likelier, refine_smooth
from tests.staining.registration_toy import UM, Toy, toy


def comparison(source: np.ndarray, target: np.ndarray) -> Comparison:
    pair, _, tissue = views_of(ArrayPicture(source, UM), ArrayPicture(target, UM))
    return Comparison(pair, tissue)


def shifted(seen: Comparison, x_um: float, y_um: float = 0.0) -> Deformation:
    return Deformation.still(Affine(((1.0, 0.0), (0.0, 1.0)), (x_um, y_um)), seen.extent_um, 12.5)


def misses(found: Deformation, pair: Toy) -> np.ndarray:
    return np.asarray(np.linalg.norm(found.apply(pair.source_points) - pair.target_points, axis=-1))


class Told(Comparison):
    """Windows that know a bend of 4 times their finest structure, of which a share is judged."""

    def __init__(self, scale: Scale, share: float, noise: float = 0.0) -> None:
        self.seed = 0
        self.scale = scale
        self.points = np.stack(np.meshgrid(np.arange(1, 9), np.arange(1, 9)), axis=-1).reshape(-1, 2) * (
            scale.window_um / 2
        )
        generator = np.random.default_rng(1)
        self.judged = generator.permutation(64) < share * 64
        self.noise = generator.normal(0, noise * scale.fine_um, self.points.shape)

    def scales(self) -> Iterator[Scale]:
        return iter([self.scale])

    def bend(self, points: np.ndarray) -> np.ndarray:
        waves = np.sin(points[:, ::-1] / self.scale.window_um)
        return np.asarray(4 * self.scale.fine_um * waves)

    def start(self) -> Deformation:
        side = 5 * self.scale.window_um
        return Deformation.still(IDENTITY, (side, side), self.scale.window_um / 4)

    def to_fit(self, deformation: Deformation, scale: Scale) -> LocalShifts:
        left = self.bend(self.points) - deformation.displacement_at(self.points)
        in_place = 1 - np.linalg.norm(left, axis=-1) / 200
        shifts = left + self.noise
        return LocalShifts(scale, self.points, shifts, self.judged, np.ones(64), in_place, 0.5)

    left_out = to_fit


@pytest.mark.parametrize(
    ("scale", "share", "fitted"),
    [(CELL, 0.8, True), (CELL, 0.6, False), (REGION, 0.6, True), (TISSUE, 0.3, True), (TISSUE, 0.2, False)],
)
def test_cells_are_fitted_where_nearly_all_match_and_glands_where_some_do(
    scale: Scale, share: float, fitted: bool
) -> None:
    told = Told(scale, share)
    start = told.start()
    found = refine_smooth(told, start)
    assert (found is not start) == fitted
    if fitted:
        left = found.displacement_at(told.points) - told.bend(told.points)
        assert np.median(np.linalg.norm(left, axis=-1)) < scale.fine_um / 2


def test_windows_that_do_not_foretell_each_other_are_not_fitted() -> None:
    told = Told(CELL, 1.0, noise=5.0)
    start = told.start()
    assert refine_smooth(told, start) is start


def test_a_bend_is_straightened_by_local_shifts() -> None:
    pair = toy(shift_um=(0.0, 0.0), degrees=0.0, bend_um=5.0)
    seen = comparison(pair.source, pair.target)
    start = shifted(seen, 0.0)
    found = refine_smooth(seen, start)
    assert np.median(misses(start, pair)) > 1.5
    assert np.median(misses(found, pair)) < 0.7
    assert found.least_jacobian() >= LEAST_JACOBIAN


def test_less_than_windows_can_tell_is_left_alone() -> None:
    pair = toy(shift_um=(0.0, 0.0), degrees=0.0, bend_um=0.0)
    seen = comparison(pair.source, pair.target)
    near, far = shifted(seen, 0.3), shifted(seen, 2.0)
    assert refine_smooth(seen, near) is near
    assert np.median(misses(refine_smooth(seen, far), pair)) < 0.5


def test_tissue_that_does_not_belong_together_is_not_bent() -> None:
    one, other = toy(seed=0), toy(seed=7)
    seen = comparison(one.source, other.target)
    start = shifted(seen, 0.0)
    assert refine_smooth(seen, start) is start


@pytest.mark.parametrize(("plain_um", "bent_um", "chosen"), [(3.0, 0.5, "bent"), (0.5, 3.0, "plain")])
def test_the_map_under_which_windows_look_alike_is_chosen(
    plain_um: float, bent_um: float, chosen: str
) -> None:
    pair = toy(shift_um=(0.0, 0.0), degrees=0.0, bend_um=0.0)
    seen = comparison(pair.source, pair.target)
    plain, bent = shifted(seen, plain_um), shifted(seen, bent_um)
    assert likelier(seen, plain, bent) is {"plain": plain, "bent": bent}[chosen]


def test_a_map_that_folds_is_never_chosen() -> None:
    pair = toy(shift_um=(0.0, 0.0), degrees=0.0, bend_um=0.0)
    seen = comparison(pair.source, pair.target)
    plain, good = shifted(seen, 3.0), shifted(seen, 0.0)
    field = good.displacement_um.copy()
    field[0, 0] = (30.0, 0.0)  # one corner folded over, the rest right
    folded = Deformation(good.affine, good.spacing_um, field)
    assert likelier(seen, plain, good) is good
    assert likelier(seen, plain, folded) is plain
