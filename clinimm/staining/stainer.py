"""The shipped stainer: several generators with one answer, its expected error, and what they saw."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from clinimm.core.errors import ModelError
from clinimm.core.record import digest_bytes, digest_file, write_text
from clinimm.nn.stain import build_generator
from clinimm.nn.stain.generator import Generator, GeneratorSettings, Origin, check_size
from clinimm.nn.tokens import Batch, Tokens
from clinimm.staining.context import ContextSpec, Trunk
from clinimm.tasks.virtual_staining import StainTask, absolute_error

_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
#: What a saved stainer is made of.
STAINER_FILES = (_CONFIG, _WEIGHTS)
_FORMAT = "clinimm.stainer/2"

#: A patient's fused tokens as each member sees them; of ``Stainer.read_context``.
Context = tuple[Tokens, ...]


@dataclass(frozen=True)
class StainerSpec:
    """All that is needed to build the stainer without its weights.

    Attributes:
        task: the stains that it makes.
        source_stain: what it makes them from, such as ``HE``.
        resolution_um: micrometres a pixel that it works at, in and out.
        generator: name of the sibling, a key of ``nn.stain.GENERATORS``.
        settings: of the generator.
        members: how many generators.
        context: what reads the patient's record; None where the pixels are all.
        provenance: facts for people: seed, subjects, synthetic or not, what each member reached.
    """

    task: StainTask
    source_stain: str
    resolution_um: float
    generator: str
    settings: GeneratorSettings
    members: int
    context: ContextSpec | None
    provenance: dict[str, Any]

    @property
    def stains(self) -> tuple[str, ...]:
        """The stains that it makes."""
        return self.task.stains

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "format": _FORMAT,
            "stains": list(self.stains),
            "source_stain": self.source_stain,
            "resolution_um": self.resolution_um,
            "generator": self.generator,
            "settings": asdict(self.settings),
            "members": self.members,
            "context": None if self.context is None else self.context.to_json(),
            "provenance": self.provenance,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> StainerSpec:
        """The inverse of ``to_json``."""
        context = value["context"]
        return cls(
            task=StainTask(tuple(value["stains"])),
            source_stain=value["source_stain"],
            resolution_um=value["resolution_um"],
            generator=value["generator"],
            settings=GeneratorSettings(**value["settings"]),
            members=value["members"],
            context=None if context is None else ContextSpec.from_json(context),
            provenance=value["provenance"],
        )


@dataclass(frozen=True)
class Stained:
    """What a stainer makes of a tile.

    Attributes:
        colour: in [0, 1], the mean of the members.
        uncertainty: expected absolute error of a colour channel, in units of the range [0, 1].
        feature_map: what the first member saw, a cell of ``stride`` pixels each.
    """

    colour: Float[Tensor, "batch 3 row column"]
    uncertainty: Float[Tensor, "batch row column"]
    feature_map: Float[Tensor, "batch feature cell_row cell_column"]

    @property
    def features(self) -> Float[Tensor, "batch feature"]:
        """What the first member saw, averaged over the tile: for telling apart what it knows."""
        return self.feature_map.mean((2, 3))


class StainMember(nn.Module):
    """One generator, and the trunk that was trained with it."""

    def __init__(self, spec: StainerSpec) -> None:
        super().__init__()
        self.generator = build_generator(spec.generator, spec.settings)
        self.trunk = None if spec.context is None else Trunk(spec.context, len(spec.stains))


class Stainer(nn.Module):
    """One or more members whose colours are averaged.

    Its expected error is made of what each member expects of itself and of how far they disagree,
    scaled on tuning pairs.

    Example:
        >>> stainer = Stainer.from_pretrained(folder)                     # doctest: +SKIP
        >>> stained = stainer(tile, stainer.stain_index("KI67", len(tile)))  # doctest: +SKIP
    """

    uncertainty_slope: Tensor

    def __init__(self, spec: StainerSpec) -> None:
        super().__init__()
        self.spec = spec
        self.members = nn.ModuleList(StainMember(spec) for _ in range(spec.members))
        self.register_buffer("uncertainty_slope", torch.ones(len(spec.stains)))
        self.digest = "unsaved"
        #: A row a look at the tuning pairs, of the training that made it; not saved.
        self.history: tuple[dict[str, float], ...] = ()

    @property
    def halo(self) -> int:
        """Pixels of margin around a tile with which it comes out as the whole slide would."""
        return self._member(0).generator.halo

    @property
    def stride(self) -> int:
        """Rows and columns of a tile, and of its place, are multiples of this."""
        return self._member(0).generator.stride

    def stain_index(self, stain: str, batch: int = 1) -> Int[Tensor, " batch"]:
        """The stain token, once an image of the batch.

        Raises:
            ConfigError: it does not make that stain.
        """
        return torch.full((batch,), self.spec.task.index(stain), dtype=torch.int64)

    def read_context(self, batch: Batch) -> Context | None:
        """A patient's raw tokens as the members read them; None where nothing conditions the stain.

        Args:
            batch: of ``ContextData.batch``; a row an image, or one row for a slide's every tile.
        """
        read = []
        for index in range(len(self.members)):
            trunk = self._member(index).trunk
            if trunk is None:
                return None
            read.append(trunk(batch))
        return tuple(read)

    def forward(
        self,
        image: Float[Tensor, "batch 3 row column"],
        stain_index: Int[Tensor, " batch"],
        context: Context | None = None,
        origin: Origin | None = None,
    ) -> Stained:
        """Stain tiles.

        Args:
            image: in [0, 1], at ``spec.resolution_um``; rows and columns multiples of ``stride``.
            stain_index: of ``stain_index``.
            context: of ``read_context``, with as many rows as ``image`` or one for all; None is a
                patient of whom nothing is known.
            origin: (batch, 2): row and column on the slide of each tile's first pixel, margin
                included. The flow sampler needs it for tiles to agree; the others ignore it.

        Raises:
            ValueError: rows or columns are no multiple of ``stride``.
        """
        check_size(image, self.stride)
        painted = []
        for index in range(len(self.members)):
            tokens = None if context is None else _for_each(context[index], len(image))
            painted.append(self._member(index).generator.paint(image, stain_index, tokens, origin).clamped())
        colours = torch.stack([one.colour for one in painted])  # (member, batch, 3, row, column)
        colour = colours.mean(0)
        own = torch.stack([one.log_scale[:, 0].float().exp() for one in painted]).pow(2).mean(0)
        spread = torch.stack([absolute_error(one, colour) for one in colours]).mean(0)
        raw = (own + spread.pow(2)).sqrt()
        slope = self.uncertainty_slope[stain_index][:, None, None]
        return Stained(colour, raw * slope, painted[0].features)

    def save_pretrained(self, folder: Path) -> str:
        """Write ``config.json`` and ``model.safetensors``; gives the digest of both."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: value.contiguous().clone() for name, value in self.state_dict().items()}
        partial = folder / f".{_WEIGHTS}.partial"
        save_file(state, partial, metadata={"format": "pt"})
        partial.replace(folder / _WEIGHTS)
        write_text(folder / _CONFIG, json.dumps(self.spec.to_json(), indent=1, sort_keys=True) + "\n")
        self.digest = stainer_digest(folder)
        return self.digest

    @classmethod
    def from_pretrained(cls, folder: Path) -> Stainer:
        """Load what ``save_pretrained`` wrote, ready to stain.

        Raises:
            ModelError: a file is missing, or weights and configuration do not belong together.
        """
        try:
            value = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError) as error:
            raise ModelError(f"{folder / _CONFIG} cannot be read: {error}.") from error
        if value.get("format") != _FORMAT:
            raise ModelError(f"{folder} holds {value.get('format')!r}; this version reads {_FORMAT!r}.")
        stainer = cls(StainerSpec.from_json(value))
        try:
            stainer.load_state_dict(load_file(folder / _WEIGHTS))
        except (OSError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"{folder / _WEIGHTS} does not fit its config.json: {error}") from error
        stainer.digest = stainer_digest(folder)
        return stainer.eval()

    def _member(self, index: int) -> StainMember:
        member = self.members[index]
        assert isinstance(member, StainMember)
        return member

    def generator(self, index: int = 0) -> Generator:
        """One member's generator."""
        return self._member(index).generator


def _for_each(tokens: Tokens, rows: int) -> Tokens:
    return tokens.expand(rows) if len(tokens) == 1 and rows > 1 else tokens


def stainer_digest(folder: Path) -> str:
    """Digest of a saved stainer: of its configuration and its weights."""
    return digest_bytes((digest_file(folder / _CONFIG) + digest_file(folder / _WEIGHTS)).encode("ascii"))
