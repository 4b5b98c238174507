from __future__ import annotations

import torch

from clinimm.nn.stain.blocks import ContextReader, StainScale, constant_convolution
from clinimm.nn.tokens import Tokens


def test_positions_of_the_bottleneck_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    reader = ContextReader(8, dim=5)
    torch.nn.init.normal_(reader.attention.out.weight)
    context = Tokens(torch.randn(1, 4, 5), torch.ones(1, 4, dtype=torch.bool), torch.zeros(1, 4))
    maps = torch.randn(1, 8, 6, 6)
    other = maps.clone()
    other[:, :, 2, 3] += 1
    changed = (reader(maps, context) - reader(other, context)).abs().amax(1)[0] > 1e-5
    assert changed.nonzero().tolist() == [[2, 3]]


def test_the_order_of_the_facts_does_not_matter() -> None:
    reader = ContextReader(8, dim=5)
    torch.nn.init.normal_(reader.attention.out.weight)
    context = Tokens(torch.randn(1, 4, 5), torch.ones(1, 4, dtype=torch.bool), torch.zeros(1, 4))
    maps = torch.randn(1, 8, 3, 3)
    turned = context.with_values(context.values.flip(1))
    torch.testing.assert_close(reader(maps, context), reader(maps, turned))


def test_each_image_gets_its_own_stain() -> None:
    scale = StainScale(3, channels=2)
    maps = torch.ones(2, 2, 1, 1)
    made = scale(maps, torch.tensor([2, 0]))
    expected = 1 + scale.scale.weight[[2, 0]] + scale.shift.weight[[2, 0]]
    torch.testing.assert_close(made[..., 0, 0], expected)


def test_a_constant_convolution_ignores_what_comes_in_at_first() -> None:
    made = constant_convolution(3, 2, -3.0)(torch.randn(1, 3, 4, 4))
    assert torch.equal(made, torch.full((1, 2, 4, 4), -3.0))
