from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from clinimm.core.errors import DataError
from clinimm.explain.attribute import attribute
from clinimm.explain.baselines import blur, reference, sorts_of
from clinimm.explain.layout import Layout
from clinimm.explain.problem import Setting, pose
from clinimm.nn.tokens import Tokens

PAGE = Path(__file__).parents[2] / "docs" / "concepts" / "explanations.md"


def _places(rows: int, columns: int) -> np.ndarray:
    return np.stack(np.unravel_index(np.arange(rows * columns), (1, rows, columns)), axis=1)


def test_blurring_a_large_map_is_scipys_gaussian_away_from_its_border() -> None:
    picture = np.random.default_rng(0).normal(size=(21, 21))
    values = torch.from_numpy(picture.reshape(-1, 1))
    found = blur(values, _places(21, 21), 1.0).reshape(21, 21).numpy()
    expected = gaussian_filter(picture, 1.0, truncate=12.0)
    np.testing.assert_allclose(found[6:-6, 6:-6], expected[6:-6, 6:-6], atol=1e-6)


@pytest.mark.parametrize(
    ("side", "finding", "left"), [(14, 2, 0.14), (14, 3, 0.27), (14, 4, 0.38), (7, 2, 0.17), (7, 3, 0.33)]
)
def test_what_is_left_of_a_finding_is_what_the_documents_say(side: int, finding: int, left: float) -> None:
    picture, start = np.zeros((side, side)), (side - finding) // 2
    picture[start : start + finding, start : start + finding] = 1
    found = blur(torch.from_numpy(picture.reshape(-1, 1)), _places(side, side)).flatten().numpy()
    assert found[picture.flatten() > 0].mean() == pytest.approx(left, abs=0.005)
    assert f"{left:.0%}".replace("%", " %") in PAGE.read_text(encoding="utf-8")


def test_blurring_keeps_pictures_apart_and_leaves_padding() -> None:
    values = torch.tensor([[0.0], [0.0], [9.0], [9.0], [5.0]])
    place = np.array([[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1], [-1, -1, -1]])
    assert blur(values, place).flatten().tolist() == [0.0, 0.0, 9.0, 9.0, 5.0]


def test_an_even_picture_says_nothing_against_its_blur(linear) -> None:
    tokens = Tokens(torch.ones(1, 6, 2), torch.ones(1, 6, dtype=torch.bool), torch.zeros(1, 6))
    setting = Setting(baseline="blurred", layout=Layout({"radiology": _places(2, 3)[None]}))
    found = attribute(linear, {"radiology": tokens}, 1, steps=4, setting=setting)
    np.testing.assert_allclose(found.scores["radiology"], 0, atol=1e-5)
    assert found.baseline == "blurred"
    assert "blurred" in found.baselines["radiology"]


def test_modalities_without_pictures_keep_their_own_baseline(linear, batch_of) -> None:
    batch = batch_of()
    setting = Setting(layout=Layout({"radiology": _places(1, 3)[None]}))
    problem = pose(linear, batch, 1, setting)
    found = reference(problem, "blurred")
    assert found.words["ehr"] == "an uninformative token"
    assert (found.values[problem.names.index("ehr")] == 0).all()


def test_a_blur_without_any_picture_is_refused(linear, batch_of) -> None:
    with pytest.raises(DataError, match="pictures"):
        reference(pose(linear, batch_of(), 1), "blurred")


def test_training_tokens_stand_in_real_places_only_and_come_from_the_bank(linear, batch_of) -> None:
    bank = {name: torch.arange(1.0, 4.0)[:, None].expand(3, len(w)) for name, w in linear.weights.items()}
    problem = pose(linear, batch_of(), 1, Setting(references=bank))
    values = reference(problem, "training", np.random.default_rng(0)).values
    for value, tokens in zip(values, problem.embedded.values(), strict=True):
        assert set(value[tokens.mask].unique().tolist()) <= {1.0, 2.0, 3.0}
        assert (value[~tokens.mask] == 0).all()


def _film(rows: int, columns: int) -> Tokens:
    count = rows * columns
    return Tokens(torch.ones(1, count, 2), torch.ones(1, count, dtype=torch.bool), torch.zeros(1, count))


def test_a_cell_is_replaced_by_a_cell_of_the_same_place_of_another_film(linear) -> None:
    layout = Layout({"radiology": _places(2, 3)[None]})
    known = sorts_of(_film(2, 3), layout, "radiology")[0]
    bank = {"radiology": torch.arange(12.0)[:, None].expand(12, 2)}  # two films, six cells each
    setting = Setting(layout=layout, references=bank, reference_kinds={"radiology": known.repeat(2)})
    problem = pose(linear, {"radiology": _film(2, 3)}, 1, setting)
    found = [reference(problem, "training", np.random.default_rng(n)) for n in range(40)]
    drawn = torch.stack([one.values[0][0, :, 0] for one in found])
    for cell in range(6):
        assert set(drawn[:, cell].tolist()) == {float(cell), float(cell + 6)}
    assert "of the same code or the same place" in found[0].words["radiology"]


def test_places_of_films_with_other_cells_are_other_places() -> None:
    wide, high = (
        sorts_of(_film(*shape), Layout({"film": _places(*shape)[None]}), "film") for shape in ((2, 3), (3, 2))
    )
    assert not set(wide.flatten().tolist()) & set(high.flatten().tolist())
    assert len(set(wide.flatten().tolist())) == 6
    padded = np.concatenate([_places(2, 3), np.full((1, 3), -1)])[None]
    tokens = Tokens(torch.ones(1, 7, 2), torch.tensor([[True] * 6 + [False]]), torch.zeros(1, 7))
    assert sorts_of(tokens, Layout({"film": padded}), "film")[0, 6] == -1
    assert sorts_of(_film(2, 3), None, "film") is None


def test_training_tokens_of_a_batch_are_those_of_its_subjects_one_by_one(linear, batch_of) -> None:
    draw = torch.Generator().manual_seed(5)
    bank = {name: torch.randn(30, len(weight), generator=draw) for name, weight in linear.weights.items()}
    batch = batch_of(3)
    setting = Setting(baseline="training", references=bank, seed=4)
    together = attribute(linear, batch, 1, steps=4, setting=setting)
    for subject in range(2):
        row = {name: tokens.row(subject) for name, tokens in batch.items()}
        alone = attribute(linear, row, 1, steps=4, setting=setting)
        assert alone.baseline_logit[0] == pytest.approx(together.baseline_logit[subject], abs=1e-5)
        for name, scores in alone.scores.items():
            real = together.scores[name][subject, : scores.shape[1]]
            np.testing.assert_allclose(scores[0], real, atol=1e-5)
