from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from clinimm.core.errors import ConfigError
from clinimm.nn.image import load_image_encoder
from clinimm.nn.image_zoo import to_map


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny vision transformer, saved as a hospital would have one on its disk."""
    from transformers import ViTConfig, ViTModel

    folder = tmp_path_factory.mktemp("vit")
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "image_processor_type": "ViTImageProcessor"}
        )
    )
    return folder


def test_a_vision_transformer_gives_its_patches_without_the_class_token(vit: Path) -> None:
    from transformers import ViTModel

    encoder = load_image_encoder(f"hf:{vit}", size=32)
    images = torch.rand(2, 3, 32, 32)

    with torch.inference_mode():
        found = encoder.trunk(images)
        model = ViTModel.from_pretrained(vit, add_pooling_layer=False).eval()
        expected = model(pixel_values=(images - 0.5) / 0.25).last_hidden_state[:, 1:]

    assert (encoder.dim, encoder.grid(32)) == (16, (4, 4))
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), expected, atol=1e-5, rtol=1e-4)


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"hf:\./no/such/model"):
        load_image_encoder("hf:./no/such/model")


def test_a_sequence_becomes_a_square_and_a_vector_is_refused() -> None:
    sequence = torch.arange(2 * 6 * 3.0).view(2, 6, 3)

    square = to_map(sequence)

    assert square.shape == (2, 3, 2, 2)
    torch.testing.assert_close(square[0, :, 0, 1], sequence[0, 3])
    with pytest.raises(ConfigError, match="feature map"):
        to_map(torch.zeros(2, 3))


@pytest.mark.slow
def test_a_monai_network_by_name(tmp_path: Path) -> None:
    from monai.networks.nets import DenseNet
    from safetensors.torch import save_file

    arguments = {"out_channels": 2, "init_features": 8, "growth_rate": 4, "block_config": [1, 1]}
    network = DenseNet(spatial_dims=2, in_channels=3, **arguments)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    options = {"network": arguments, "weights": str(tmp_path / "weights.safetensors")}

    encoder = load_image_encoder("monai:DenseNet", size=64, options=options)

    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(encoder.trunk(images), network.eval().features(images))
    with pytest.raises(ConfigError, match="comes without weights"):
        load_image_encoder("monai:DenseNet", size=64, options={"network": arguments})
    with pytest.raises(ConfigError, match="no network class"):
        load_image_encoder("monai:NoSuchNet", size=64, options={"weights": "random"})
    with pytest.raises(ConfigError, match="unexpected keyword"):
        load_image_encoder("monai:DenseNet", options={"network": {"nonsense": 1}, "weights": "random"})
    assert isinstance(encoder.tail, nn.Identity)
