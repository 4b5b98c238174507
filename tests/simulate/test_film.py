import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from clinimm.simulate.film import Film, FilmPlan, draw_body, draw_lesions, plan_film, render_film


def _plan(seed: int, lesion: bool, size: tuple[int, int] = (128, 128)) -> FilmPlan:
    generator = np.random.default_rng(seed)
    return plan_film(size, "N", "PA", draw_body(generator), draw_lesions(lesion, generator), generator)


def test_the_same_plan_draws_the_same_film():
    plan = _plan(0, lesion=True)
    assert np.array_equal(render_film(plan).grey, render_film(plan).grey)


@pytest.mark.parametrize("seed", range(12))
def test_the_box_holds_the_lesion(seed: int):
    """Against the same film without its lesion: nearly all added light lies in the box."""
    plan = _plan(seed, lesion=True)
    film = render_film(plan)
    plain = render_film(FilmPlan(**{**plan.__dict__, "lesions": ()}))
    added = np.clip(film.grey - plain.grey - 0.1, 0, None)
    left, top, right, bottom = film.boxes[0]
    assert 0 <= left < right <= 128
    assert 0 <= top < bottom <= 128
    assert added[top:bottom, left:right].sum() > 0.9 * added.sum() > 0


def test_a_lesion_is_about_a_quarter_of_the_film_wide():
    boxes = [render_film(_plan(seed, lesion=True)).boxes[0] for seed in range(10)]
    widths = np.array([right - left for left, _, right, _ in boxes]) / 128
    assert 0.2 < widths.min() < widths.max() < 0.36


def test_no_lesion_no_box():
    assert render_film(_plan(0, lesion=False)).boxes == ()


def _asymmetry(film: Film) -> float:
    """The larger difference in brightness between the two lungs' upper and middle zones."""
    grey = film.grey
    rows, columns = grey.shape
    zones = grey[int(0.25 * rows) : int(0.55 * rows)].reshape(-1, columns)
    left = zones[:, int(0.22 * columns) : int(0.36 * columns)].mean()
    right = zones[:, int(0.64 * columns) : int(0.78 * columns)].mean()
    return abs(float(left - right))


def test_a_simple_probe_finds_the_lesion():
    films = [(seed % 2, render_film(_plan(seed, lesion=bool(seed % 2)))) for seed in range(60)]
    assert roc_auc_score([label for label, _ in films], [_asymmetry(film) for _, film in films]) > 0.97


def test_sides_are_the_patients():
    generator = np.random.default_rng(0)
    lesions = [draw_lesions(True, generator)[0] for _ in range(20)]
    assert {lesion.side for lesion in lesions} == {"left", "right"}
    assert all((lesion.x < 0) == (lesion.side == "right") for lesion in lesions)
