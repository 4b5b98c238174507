"""Image encoders from elsewhere: a Hugging Face model by name or path, a MONAI network by name.

Weights are read from safetensors only; a pickled checkpoint can run code and is refused.
"""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clinimm.core.errors import ConfigError, MissingExtraError
from clinimm.nn.image import ImageEncoder, Normalise, frozen

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
#: A finer grid would drown the fusion in tokens of one picture.
_MOST_CELLS = 1024
_MONAI_OPTIONS = {"network", "weights"}


def load_hf(name: str, size: int, options: dict[str, Any]) -> ImageEncoder:
    """A Hugging Face vision model: patch tokens of a transformer, or the map of a CNN.

    Raises:
        ConfigError: it cannot be loaded or gives no grid.
        MissingExtraError: transformers is absent.
    """
    if options:
        raise ConfigError(f"encoder options {', '.join(options)} are for monai: networks only.")
    try:
        from transformers import AutoModel
        from transformers.image_processing_utils import BaseImageProcessor
        from transformers.utils import logging
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"hf:{name} needs {error.name}, which is not installed: pip install 'clinimm[radiology]'."
        ) from error
    logging.disable_progress_bar()
    try:
        model = AutoModel.from_pretrained(name, use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"image encoder hf:{name}: not a local folder with a safetensors model, and not to be had "
            f"from the Hugging Face hub: {str(error).splitlines()[0]}"
        ) from error
    try:
        found, _ = BaseImageProcessor.get_image_processor_dict(name)
    except (OSError, ValueError):
        found = {}
    mean = tuple(found.get("image_mean") or _IMAGENET[0])
    deviation = tuple(found.get("image_std") or _IMAGENET[1])
    vision = getattr(model, "vision_model", model)
    return _finish(f"hf:{name}", _HuggingFace(vision, Normalise(mean, deviation)), size)


class _HuggingFace(nn.Module):
    def __init__(self, model: nn.Module, normalise: Normalise) -> None:
        super().__init__()
        self.normalise = normalise
        self.model = model
        self.interpolate = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim h w"]:
        options = {"interpolate_pos_encoding": True} if self.interpolate else {}
        return to_map(self.model(pixel_values=self.normalise(images), **options).last_hidden_state)


def load_monai(name: str, size: int, options: dict[str, Any]) -> ImageEncoder:
    """A network class of ``monai.networks.nets`` that gives a feature map or a sequence.

    Args:
        name: class name, such as ``DenseNet121``.
        size: side of the input, pixels.
        options: ``network``, the arguments of the class; ``weights``, a safetensors file, or
            ``random``, which says aloud that the network knows nothing.

    Raises:
        ConfigError: the class, its arguments or its weights do not work out.
        MissingExtraError: MONAI is absent.
    """
    if unknown := sorted(set(options) - _MONAI_OPTIONS):
        raise ConfigError(f"monai:{name}: unknown options {', '.join(unknown)}; known are network, weights.")
    network = _monai_network(name, dict(options.get("network") or {}))
    _load_weights(network, options.get("weights"), f"monai:{name}")
    return _finish(f"monai:{name}", _Monai(network), size)


def _monai_network(name: str, arguments: dict[str, Any]) -> nn.Module:
    try:
        from monai.networks import nets  # about 20 s of processor time: only where it is asked for
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"monai:{name} needs {error.name}, which is not installed: pip install 'clinimm[radiology]'."
        ) from error
    kind = getattr(nets, name, None)
    if not (inspect.isclass(kind) and issubclass(kind, nn.Module)):
        raise ConfigError(f"monai:{name} is no network class of monai.networks.nets.")
    known = inspect.signature(kind.__init__).parameters
    usual = {"spatial_dims": 2, "in_channels": 3}
    arguments = {**{key: value for key, value in usual.items() if key in known}, **arguments}
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network: nn.Module = kind(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"monai:{name}({arguments}): {error}.") from error
    return network


def _load_weights(network: nn.Module, weights: str | None, name: str) -> None:
    if weights == "random":
        return
    if weights is None:
        raise ConfigError(
            f"{name} comes without weights: give options.weights, the path of a safetensors file "
            "(or `random`, for a trial)."
        )
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        network.load_state_dict(load_file(Path(weights)))
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{name}: weights {weights} cannot be read as safetensors: {error}.") from error
    except RuntimeError as error:
        raise ConfigError(f"{name}: weights {weights} do not fit: {str(error).splitlines()[0]}") from error


class _Monai(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        features = getattr(network, "features", None)
        self.network = features if isinstance(features, nn.Module) else network

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim h w"]:
        channels = _input_channels(self.network)
        output = self.network(images.mean(1, keepdim=True) if channels == 1 else images)
        while isinstance(output, (tuple, list)):
            output = output[0]
        return to_map(output)


def _input_channels(network: nn.Module) -> int:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    return 3


def to_map(output: Tensor) -> Float[Tensor, "batch dim h w"]:
    """A feature map as it is, or a sequence of patches, without leading class tokens, as a square.

    Raises:
        ConfigError: it is neither.
    """
    if output.ndim == 4:
        return output
    if output.ndim == 3:
        side = math.isqrt(output.shape[1])
        patches = output[:, output.shape[1] - side * side :]
        return patches.transpose(1, 2).unflatten(2, (side, side))
    raise ConfigError(
        f"the image encoder gives {tuple(output.shape[1:])} an image; a feature map (channel, row, column) "
        "or a sequence (patch, channel) is needed, so that explanations can point at a place."
    )


def _finish(name: str, network: nn.Module, size: int) -> ImageEncoder:
    trunk = frozen(network)
    try:
        with torch.inference_mode():
            maps = trunk(torch.zeros(1, 3, size, size))
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"{name} does not take 3 x {size} x {size} pixels: {str(error).splitlines()[0]}; "
            "set the option `size` to what it was made for."
        ) from error
    if maps.shape[2] * maps.shape[3] > _MOST_CELLS:
        rows, columns = maps.shape[2:]
        raise ConfigError(
            f"{name} gives {rows} x {columns} tokens an image; at most {_MOST_CELLS} are taken."
        )
    return ImageEncoder(name, trunk, nn.Identity(), int(maps.shape[1]))
