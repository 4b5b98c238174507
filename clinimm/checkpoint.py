"""Where an interrupted training finds itself again: weights and optimiser in safetensors."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from clinimm.core.record import write_text

_RECORD = "checkpoint.json"

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Progression:
    """Where a member's training stands; with the weights, all that a resumed run needs."""

    epoch: int = 0
    best_epoch: int = -1
    best_loss: float = float("inf")
    history: tuple[dict[str, float], ...] = ()


def copy_of(weights: Weights) -> Weights:
    """A copy that later steps do not change."""
    return {name: value.detach().clone() for name, value in weights.items()}


class Checkpoint:
    """A folder that holds the newest state of one training.

    Random numbers need no place in it: each epoch seeds them anew from the run's seed.

    Args:
        folder: made where it is absent; None keeps nothing.
        every_seconds: least time between two saves, so that short trainings pay nothing.
    """

    def __init__(self, folder: Path | None, every_seconds: float = 10.0) -> None:
        self.folder = folder
        self.every_seconds = every_seconds
        self._saved = time.monotonic()

    def keep(
        self,
        state: Progression,
        network: nn.Module,
        average: Weights,
        best: Weights,
        optimiser: torch.optim.Optimizer,
    ) -> None:
        """Save, unless the last save is recent; the record of where it stands is written last."""
        if self.folder is None or time.monotonic() - self._saved < self.every_seconds:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors: Weights = {}
        for prefix, part in (("now", network.state_dict()), ("average", average), ("best", best)):
            tensors |= {f"{prefix}/{name}": value.contiguous().clone() for name, value in part.items()}
        for index, slots in optimiser.state_dict()["state"].items():
            moments = {slot: torch.as_tensor(value) for slot, value in slots.items()}
            tensors |= {f"adam/{index}/{slot}": one.contiguous().clone() for slot, one in moments.items()}
        name = f"checkpoint-{state.epoch}.safetensors"
        save_file(tensors, self.folder / name)
        write_text(self.folder / _RECORD, json.dumps({"file": name, **asdict(state)}) + "\n")
        for old in self.folder.glob("checkpoint-*.safetensors"):
            if old.name != name:
                old.unlink()
        self._saved = time.monotonic()

    def resume(
        self, network: nn.Module, average: Weights, best: Weights, optimiser: torch.optim.Optimizer
    ) -> Progression:
        """Put everything back to where the checkpoint stands; without one, training starts."""
        if self.folder is None:
            return Progression()
        try:
            value = json.loads((self.folder / _RECORD).read_text(encoding="utf-8"))
            tensors = load_file(self.folder / value.pop("file"))
        except (OSError, json.JSONDecodeError):
            return Progression()
        parts: dict[str, Weights] = {"now": {}, "average": {}, "best": {}}
        slots: dict[int, Weights] = {}
        for key, tensor in tensors.items():
            prefix, _, name = key.partition("/")
            if prefix == "adam":
                index, _, slot = name.partition("/")
                slots.setdefault(int(index), {})[slot] = tensor
            else:
                parts[prefix][name] = tensor
        network.load_state_dict(parts["now"])
        average.update(parts["average"])
        best.update(parts["best"])
        optimiser.load_state_dict({**optimiser.state_dict(), "state": slots})
        return Progression(**{**value, "history": tuple(value["history"])})

    def clear(self) -> None:
        """Forget the state: the training is done."""
        if self.folder is not None and self.folder.exists():
            for file in self.folder.glob("checkpoint*"):
                file.unlink()
