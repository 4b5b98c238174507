from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation, Occlusion
from scipy.ndimage import uniform_filter

from clinimm.explain.attribute import attribute
from clinimm.explain.layout import Layout
from clinimm.explain.problem import Setting, pose
from clinimm.nn.tokens import Batch, Tokens


def _grid(rows: int, columns: int, subjects: int = 1) -> tuple[Batch, Layout]:
    count = rows * columns
    values = torch.randn(subjects, count, 2, generator=torch.Generator().manual_seed(0))
    tokens = Tokens(values, torch.ones(subjects, count, dtype=torch.bool), torch.zeros(subjects, count))
    place = np.stack(np.unravel_index(np.arange(count), (1, rows, columns)), axis=1)
    return {"radiology": tokens}, Layout({"radiology": np.repeat(place[None], subjects, axis=0)})


@pytest.mark.parametrize("method", ["feature_ablation", "occlusion"])
@pytest.mark.parametrize("baseline", ["absent", "uninformative"])
def test_one_token_alone_loses_exactly_what_it_said(linear, batch_of, method: str, baseline: str) -> None:
    """A modality of one token: every window is that token."""
    tokens = batch_of()["radiology"].row(0)
    batch = {"radiology": Tokens(tokens.values[:, :1], tokens.mask[:, :1], tokens.time[:, :1])}
    found = attribute(linear, batch, 1, method, setting=Setting(baseline=baseline))
    expected = float((2 * batch["radiology"].values[0, 0]) @ linear.weights["radiology"])
    assert found.scores["radiology"][0, 0] == pytest.approx(expected, abs=1e-5)
    np.testing.assert_allclose(found.delta, 0, atol=1e-5)


def test_ablation_equals_captum_with_a_mask_a_token(curved, batch_of) -> None:
    """Captum's own way: replace a token's vector by the baseline, one feature a token."""
    batch = batch_of(2)
    problem = pose(curved, batch, 1)
    starts = np.cumsum([0, *(value.shape[1] for value in problem.values)])  # equal numbers go together
    masks = tuple(
        (start + torch.arange(v.shape[1]))[None, :, None].expand(1, *v.shape[1:])
        for start, v in zip(starts[:-1].tolist(), problem.values, strict=True)
    )
    raw = FeatureAblation(problem.forward).attribute(
        problem.values,
        baselines=(0.0,) * 3,
        feature_mask=masks,
        additional_forward_args=problem.unchanged,
    )
    found = attribute(curved, batch, 1, "feature_ablation", setting=Setting(baseline="uninformative"))
    for name, part in zip(problem.names, raw, strict=True):
        expected = torch.where(batch[name].mask, part[..., 0], 0.0)
        np.testing.assert_allclose(found.scores[name], expected.numpy(), atol=1e-5)


def test_ablation_by_absence_is_the_logit_less_the_logit_without_the_token(curved, batch_of) -> None:
    batch = batch_of()
    found = attribute(curved, batch, 1, "feature_ablation")
    embedded = curved.embed(batch)
    without = embedded["ehr"].mask.clone()
    without[0, 1] = False
    less = curved.logits({**embedded, "ehr": embedded["ehr"].with_mask(without)})[0, 1]
    whole = curved.logits(embedded)[0, 1]
    assert found.scores["ehr"][0, 1] == pytest.approx(float(whole - less), abs=1e-5)
    assert found.baseline_logit[0] == pytest.approx(curved.bias), "no token is left"


def test_occlusion_of_a_picture_equals_captum_on_a_picture(curved) -> None:
    """The same windows on a map (row, column, dim), as Captum has it; the share of nine is ours."""
    batch, layout = _grid(4, 5)
    problem = pose(curved, batch, 1)

    def forward(maps: torch.Tensor) -> torch.Tensor:
        extras = (extra.expand(len(maps), -1) for extra in problem.unchanged)
        return problem.forward(maps[:, 2:-2, 2:-2].flatten(1, 2), *extras)

    maps = torch.nn.functional.pad(problem.values[0].unflatten(1, (4, 5)), (0, 0, 2, 2, 2, 2))
    raw = Occlusion(forward).attribute(maps, sliding_window_shapes=(3, 3, 2), baselines=0.0)
    # Tokens that each window takes away, mean over the nine windows that hold the place.
    taken = uniform_filter(9 * uniform_filter(np.pad(np.ones((4, 5)), 4), 3), 3)[4:-4, 4:-4]
    setting = Setting(layout=layout, baseline="uninformative")
    found = attribute(curved, batch, 1, "occlusion", setting=setting)
    expected = raw[0, 2:-2, 2:-2, 0].numpy() / taken
    np.testing.assert_allclose(found.scores["radiology"][0], expected.flatten(), atol=1e-5)


def test_a_lonely_tile_is_not_divided_by_neighbours_that_it_has_not(linear) -> None:
    tokens = Tokens(torch.ones(1, 2, 2), torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, 2))
    layout = Layout({"radiology": np.array([[[0, 0, 0], [0, 9, 9]]])})
    found = attribute(linear, {"radiology": tokens}, 1, "occlusion", setting=Setting(layout=layout))
    expected = float(torch.tensor([2.0, 2.0]) @ linear.weights["radiology"])
    np.testing.assert_allclose(found.scores["radiology"][0], expected, atol=1e-5)


@pytest.mark.parametrize("method", ["feature_ablation", "occlusion"])
def test_a_batch_equals_one_by_one_and_padding_has_nothing(curved, batch_of, method: str) -> None:
    batch = batch_of(3)
    together = attribute(curved, batch, 1, method)
    assert (together.scores["ehr"][:, 3:] == 0).all()
    for subject in range(3):
        alone = attribute(curved, {n: t.row(subject) for n, t in batch.items()}, 1, method)
        for name, scores in alone.scores.items():
            np.testing.assert_allclose(
                scores[0], together.scores[name][subject, : scores.shape[1]], atol=1e-5
            )


def test_what_two_tokens_do_together_stays_in_the_residual(curved, batch_of) -> None:
    found = attribute(curved, batch_of(), 1, "feature_ablation", setting=Setting(baseline="uninformative"))
    np.testing.assert_allclose(found.delta, found.baseline_logit + found.total - found.logit)
    assert np.abs(found.delta[0]) > 0.01
