from __future__ import annotations

import numpy as np
import torch
from captum.attr import LayerGradCam
from torch import nn

from clinimm.explain.attribute import attribute
from clinimm.explain.gradcam import layer_grad_cam
from clinimm.explain.problem import pose
from clinimm.nn.tokens import Tokens


def test_a_linear_model_gives_weight_times_token(linear, batch_of) -> None:
    """The gradient is the weight at every real token, so its mean is the weight, padding or not."""
    batch = batch_of(2)
    found = layer_grad_cam(pose(linear, batch, 1))
    for score, (name, tokens) in zip(found.scores, batch.items(), strict=True):
        expected = ((2 * tokens.values) @ linear.weights[name]) * tokens.mask
        np.testing.assert_allclose(score.numpy(), expected.numpy(), atol=1e-5)


def test_without_padding_it_equals_captum_on_a_feature_map(curved) -> None:
    """Tokens as the cells of a map (batch, channel, cell), Captum's own case, before the ReLU."""
    values = torch.randn(2, 5, 2, generator=torch.Generator().manual_seed(0))
    mask, time = torch.ones(2, 5, dtype=torch.bool), torch.zeros(2, 5)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Identity()

        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            return curved.logits({"notes": Tokens(self.layer(maps).transpose(1, 2), mask, time)})

    net = Net()
    maps = (2 * values).transpose(1, 2).requires_grad_()
    expected = LayerGradCam(net, net.layer).attribute(maps, target=1)[:, 0]
    found = layer_grad_cam(pose(curved, {"notes": Tokens(values, mask, time)}, 1))
    np.testing.assert_allclose(found.scores[0].numpy(), expected.detach().numpy(), atol=1e-6)


def test_padding_changes_nothing(curved, batch_of) -> None:
    batch = batch_of()
    wide = dict(batch)
    tokens = batch["ehr"]
    wide["ehr"] = Tokens(
        torch.nn.functional.pad(tokens.values, (0, 0, 0, 6), value=9.0),
        torch.nn.functional.pad(tokens.mask, (0, 6)),
        torch.nn.functional.pad(tokens.time, (0, 6)),
    )
    before, after = (attribute(curved, one, 1, "layer_grad_cam").scores["ehr"] for one in (batch, wide))
    np.testing.assert_allclose(after[:, :5], before, atol=1e-6)
    assert (after[:, 5:] == 0).all()
