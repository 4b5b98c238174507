from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from clinimm.core.errors import ConfigError, ModelError
from clinimm.nn.stain.generator import GeneratorSettings
from clinimm.staining.stainer import STAINER_FILES, Stainer, StainerSpec
from clinimm.tasks.virtual_staining import StainTask
from tests.nn.stain.parts import image_of


def stainer_of(name: str = "unet", members: int = 2) -> Stainer:
    torch.manual_seed(0)
    spec = StainerSpec(
        task=StainTask(("CK", "KI67")),
        source_stain="HE",
        resolution_um=0.5,
        generator=name,
        settings=GeneratorSettings(stains=2, width=8, levels=3, sampler_steps=2),
        members=members,
        context=None,
        provenance={"seed": 0},
    )
    stainer = Stainer(spec)
    for parameter in stainer.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    stainer.uncertainty_slope[:] = torch.tensor([2.0, 0.5])
    return stainer.eval()


@pytest.mark.parametrize("name", ["unet", "vae", pytest.param("flow", marks=pytest.mark.slow)])
def test_what_is_saved_comes_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    stainer, image = stainer_of(name), image_of(24, 32)
    digest = stainer.save_pretrained(tmp_path / "one")
    loaded = Stainer.from_pretrained(tmp_path / "one")
    assert {path.name for path in (tmp_path / "one").iterdir()} == set(STAINER_FILES)
    assert loaded.spec == stainer.spec
    assert (loaded.halo, loaded.stride) == (stainer.halo, stainer.stride)
    one, two = (model(image, model.stain_index("KI67")) for model in (stainer, loaded))
    assert torch.equal(one.colour, two.colour)
    assert torch.equal(one.uncertainty, two.uncertainty)
    assert torch.equal(one.features, two.features)
    assert loaded.digest == stainer.digest == digest == loaded.save_pretrained(tmp_path / "two")


def test_another_weight_is_another_digest(tmp_path: Path) -> None:
    stainer = stainer_of()
    first = stainer.save_pretrained(tmp_path)
    stainer.uncertainty_slope[0] += 1
    assert stainer.save_pretrained(tmp_path) != first


def test_what_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        Stainer.from_pretrained(tmp_path)
    stainer_of().save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    value = json.loads(config.read_text())
    config.write_text(json.dumps({**value, "members": 3}))
    with pytest.raises(ModelError, match="does not fit its config"):
        Stainer.from_pretrained(tmp_path)
    config.write_text(json.dumps({**value, "format": "clinimm.stainer/9"}))
    with pytest.raises(ModelError, match=r"'clinimm.stainer/9'; this version reads 'clinimm.stainer/2'"):
        Stainer.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    config.write_text(json.dumps(value))
    with pytest.raises(ModelError, match="does not fit its config"):
        Stainer.from_pretrained(tmp_path)


def test_the_colour_is_the_mean_of_the_members() -> None:
    stainer, image = stainer_of(), image_of(16, 16, batch=2)
    stain = torch.tensor([0, 1])
    parts = torch.stack([stainer.generator(index)(image, stain) for index in range(2)])
    stained = stainer(image, stain)
    torch.testing.assert_close(stained.colour, parts[:, :, :3].mean(0))
    own = parts[:, :, 3].exp()
    spread = (parts[:, :, :3] - parts[:, :, :3].mean(0)).abs().mean(2).mean(0)
    expected = ((own**2).mean(0) + spread**2).sqrt() * torch.tensor([2.0, 0.5])[:, None, None]
    torch.testing.assert_close(stained.uncertainty, expected)
    assert stained.features.shape == (2, stained.feature_map.shape[1])
    assert stained.feature_map.shape[2:] == (16 // stainer.stride, 16 // stainer.stride)


def test_members_that_disagree_are_less_sure() -> None:
    stainer, image = stainer_of(), image_of(16, 16)
    before = stainer(image, torch.tensor([0])).uncertainty.mean()
    with torch.no_grad():
        stainer.generator(1).start.coefficients[..., 0] -= 0.3
    assert stainer(image, torch.tensor([0])).uncertainty.mean() > 1.5 * before


def test_a_tile_with_its_halo_is_the_whole() -> None:
    stainer = stainer_of()
    image, halo = image_of(96, 96), stainer.halo
    core = slice(40, 64)
    whole = stainer(image, torch.tensor([1]))
    part = slice(core.start - halo, core.stop + halo)
    tile = stainer(image[:, :, part, part], torch.tensor([1]))
    for one, other in ((whole.colour, tile.colour), (whole.uncertainty, tile.uncertainty)):
        difference = one[..., core, core] - other[..., halo:-halo, halo:-halo]
        assert difference.abs().max() * 255 < 0.1


def test_a_stain_that_it_does_not_make_and_a_size_that_does_not_fit_are_named() -> None:
    with pytest.raises(ConfigError, match="this model makes CK, KI67"):
        stainer_of().stain_index("HER2")
    with pytest.raises(ValueError, match="multiples of 4"):
        stainer_of()(image_of(18, 16), torch.tensor([0]))
