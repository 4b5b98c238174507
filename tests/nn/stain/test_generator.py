"""The laws that every generator keeps, whatever is inside."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from clinimm.core.errors import ConfigError
from clinimm.nn.stain import GENERATORS, build_generator
from clinimm.nn.stain.generator import Generator, GeneratorSettings
from tests.nn.stain.parts import ARCHITECTURES, CONTEXT_DIM, awake, context_of, image_of

STAIN = torch.tensor([1])


def positive(name: str, **changes: object) -> Generator:
    """A generator through which every path carries a disturbance to the end, in double precision."""
    generator = awake(name, width=4, **changes).double()
    with torch.no_grad():
        for name_, parameter in generator.named_parameters():
            if "bias" not in name_ and "shift" not in name_:
                parameter.abs_()
        for module in generator.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                module.running_mean.zero_()
    return generator


def farthest_change(generator: Generator, size: int) -> int:
    """The largest distance from a disturbed pixel at which the colours change, over all phases."""
    image = image_of(size, size).double()
    farthest = 0
    for phase in range(generator.stride):
        middle = size // 2 + phase
        other = image.clone()
        other[:, :, middle, middle] += 100.0
        with torch.no_grad():
            change = generator.paint(image, STAIN).colour != generator.paint(other, STAIN).colour
        rows = change.any(dim=3).any(dim=1)[0].nonzero()[:, 0]
        farthest = max(farthest, int((rows - middle).abs().max()))
    return farthest


@pytest.mark.parametrize("levels", [2, 3, 4])
@pytest.mark.parametrize("fold", [1, 2])
@pytest.mark.parametrize("name", ["unet", "vae"])
def test_the_reach_is_exact(name: str, fold: int, levels: int) -> None:
    generator = positive(name, fold=fold, levels=levels)
    assert farthest_change(generator, size=160) == generator.reach
    assert 0 <= generator.halo - generator.reach < generator.stride


@pytest.mark.parametrize("steps", [1, 3])
def test_the_reach_of_the_sampler_is_exact(steps: int) -> None:
    generator = positive("flow", levels=3, sampler_steps=steps)
    assert farthest_change(generator, size=160) == generator.reach


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_tile_with_its_halo_is_the_whole(name: str) -> None:
    generator = awake(name)
    halo, stride = generator.halo, generator.stride
    image = image_of(2 * halo + 64, 2 * halo + 80)
    core = (slice(halo + 16, halo + 48), slice(halo + 24, halo + 56))
    top, left = core[0].start - halo, core[1].start - halo
    assert top % stride == left % stride == 0
    tile = image[:, :, top : core[0].stop + halo, left : core[1].stop + halo]
    with torch.no_grad():
        whole = generator(image, STAIN, origin=torch.tensor([[8, 16]]))
        alone = generator(tile, STAIN, origin=torch.tensor([[8 + top, 16 + left]]))
    difference = (whole[:, :, *core] - alone[:, :, halo:-halo, halo:-halo]).abs().max()
    assert difference < 1e-5
    # The check can fail: without a margin the tile differs.
    with torch.no_grad():
        bare = generator(
            image[:, :, *core], STAIN, origin=torch.tensor([[8 + core[0].start, 16 + core[1].start]])
        )
    assert (whole[:, :, *core] - bare).abs().max() > 1e-3


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_batch_is_one_by_one(name: str) -> None:
    generator = awake(name, context_dim=CONTEXT_DIM)
    image, stain, context = image_of(32, 48, batch=2), torch.tensor([0, 1]), context_of(2)
    with torch.no_grad():
        both = generator(image, stain, context)
        second = context.with_values(context.values[1:]).with_mask(context.mask[1:])
        alone = generator(image[1:], stain[1:], second)
    torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_colours_lie_in_range_and_the_shape_is_kept(name: str) -> None:
    made = awake(name)(10 * image_of(16, 40) - 5, STAIN)
    assert made.shape == (1, 4, 16, 40)
    assert made[:, :3].min() == 0
    assert made[:, :3].max() == 1


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_size_that_does_not_fit_is_named(name: str) -> None:
    with pytest.raises(ValueError, match="16 x 20 pixels; this generator needs multiples of 8"):
        awake(name)(image_of(16, 20), STAIN)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_stain_token_changes_the_stain(name: str) -> None:
    generator, image = awake(name), image_of(32, 32)
    change = generator(image, torch.tensor([0])) - generator(image, torch.tensor([1]))
    assert change[:, :3].abs().max() > 1e-3


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_context_changes_the_stain_only_where_there_is_one(name: str) -> None:
    generator, image = awake(name, context_dim=CONTEXT_DIM), image_of(32, 32, batch=2)
    stain = torch.tensor([0, 1])
    alone = generator(image, stain)
    assert torch.equal(generator(image, stain, context_of(2)), alone)  # it starts at no influence
    assert generator.reader is not None
    nn.init.normal_(generator.reader.attention.out.weight)  # type: ignore[union-attr]
    nn.init.normal_(generator.reader.attention.out.bias)  # type: ignore[union-attr]
    known, unknown = context_of(2), context_of(2, present=False)
    assert torch.equal(generator(image, stain, unknown), alone)
    assert (generator(image, stain, known) - alone).abs().max() > 1e-3
    half = known.with_mask(torch.tensor([[True, True, False], [False, False, False]]))
    mixed = generator(image, stain, half)
    torch.testing.assert_close(mixed[1], alone[1], atol=1e-6, rtol=0)
    assert (mixed[0] - alone[0]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_nothing_measures_the_tile(name: str) -> None:
    kinds = {type(module).__name__ for module in awake(name, context_dim=CONTEXT_DIM).modules()}
    assert not [kind for kind in kinds if "GroupNorm" in kind or "InstanceNorm" in kind]
    assert "BatchNorm2d" in kinds


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_expected_error_does_not_pull_at_the_colours(name: str) -> None:
    generator = awake(name).train()
    generator.paint(image_of(32, 32, batch=2), torch.tensor([0, 1])).log_scale.sum().backward()
    touched = {
        key.split(".")[0:2][-1] for key, value in generator.named_parameters() if value.grad is not None
    }
    assert touched == {"scale"}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_untrained_it_is_its_per_pixel_start(name: str) -> None:
    settings = GeneratorSettings(stains=1, width=8)
    generator = build_generator(name, settings).eval()
    generator.start.coefficients[:] = torch.randn(1, 3, 10) / 10
    image = image_of(32, 32)
    expected = generator.start(image, torch.tensor([0])).clamp(0, 1)
    torch.testing.assert_close(generator(image, torch.tensor([0]))[:, :3], expected, atol=1e-6, rtol=0)


def test_an_unknown_sibling_is_named() -> None:
    with pytest.raises(ConfigError, match="'gan' is unknown; known are unet, pix2pix"):
        build_generator("gan", GeneratorSettings(stains=1))
    assert set(GENERATORS) == {"unet", "pix2pix", "cyclegan", "cut", "vae", "flow"}
