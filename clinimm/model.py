"""Encoders, fusion and heads as one model that loads and saves as a Hugging Face model does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from clinimm.config import ModalityConfig, ModelConfig
from clinimm.core.errors import ModelError
from clinimm.core.record import digest_bytes, digest_file, write_text
from clinimm.fusion import build_fusion
from clinimm.modalities import get_modality
from clinimm.modality import Statistics
from clinimm.nn.attention import Trace
from clinimm.nn.blocks import Adapter
from clinimm.nn.encoder import TokenEncoder, summary_size
from clinimm.nn.evidence import EvidencePairs, Probe
from clinimm.nn.tokens import Batch, Tokens
from clinimm.tasks.diagnosis import DiagnosisHead, ModalityHead, Task

_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
#: What a saved model is made of.
MODEL_FILES = (_CONFIG, _WEIGHTS)
_FORMAT = "clinimm.model/2"


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed to build the model without its weights.

    Attributes:
        task: what it predicts.
        model: the network's configuration.
        modalities: name -> settings of its encoder.
        statistics: name -> what ``Modality.fit`` learned from the training subjects.
        plugins: modules of outside modalities.
        provenance: facts for people: seed, the fit, how many subjects it was trained on.
    """

    task: Task
    model: ModelConfig
    modalities: dict[str, ModalityConfig]
    statistics: dict[str, Statistics]
    plugins: tuple[str, ...]
    provenance: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "format": _FORMAT,
            "task": {"name": self.task.name, "kind": self.task.kind, "classes": list(self.task.classes)},
            "model": self.model.model_dump(mode="json"),
            "modalities": {name: item.model_dump(mode="json") for name, item in self.modalities.items()},
            "statistics": self.statistics,
            "plugins": list(self.plugins),
            "provenance": self.provenance,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ModelSpec:
        """The inverse of ``to_json``."""
        task = value["task"]
        return cls(
            task=Task(task["name"], task["kind"], tuple(task["classes"])),
            model=ModelConfig.model_validate(value["model"]),
            modalities={
                name: ModalityConfig.model_validate(item) for name, item in value["modalities"].items()
            },
            statistics=value["statistics"],
            plugins=tuple(value["plugins"]),
            provenance=value["provenance"],
        )


@dataclass(frozen=True)
class Answer:
    """What one network says: the fused logit, and each modality's own."""

    fused: Float[Tensor, "batch cls"]
    unimodal: dict[str, Float[Tensor, "batch cls"]]


class FusionNetwork(nn.Module):
    """One member: an encoder and an adapter a modality, the fusion, and the heads.

    The fused logit is the sum of the modalities' own evidence (independent evidence adds up in
    log odds), of products of that evidence, and of what attention across all tokens adds. A
    modality's evidence is its probe's, a linear model, and what its trained head adds. Heads and
    attention start at zero, so training starts from the simple model and moves away from it
    only where that pays.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        classes = len(spec.task.classes)
        config = spec.model
        encoders = {
            name: get_modality(name, spec.plugins).build_encoder(item, spec.statistics[name])
            for name, item in spec.modalities.items()
        }
        for encoder in encoders.values():
            encoder.expect(classes)
        self.encoders = nn.ModuleDict(encoders)
        self.adapters = nn.ModuleDict(
            {name: Adapter(encoder.dim, config.width, config.dropout) for name, encoder in encoders.items()}
        )
        self.heads = nn.ModuleDict(
            {name: ModalityHead(config.width, classes, config.dropout) for name in encoders}
        )
        self.probes = nn.ModuleDict(
            {
                name: Probe(summary_size(encoder, int(spec.statistics[name]["raw_dim"])), classes)
                for name, encoder in encoders.items()
            }
        )
        self.fusion = build_fusion(config)
        self.head = DiagnosisHead(config, classes)
        self.evidence = EvidencePairs(tuple(encoders), classes)

    def embed(self, batch: Batch) -> Batch:
        """Each modality's raw tokens embedded one by one; where attributions start."""
        return {name: self.encoder(name).embed(tokens) for name, tokens in batch.items()}

    def summarise(self, embedded: Batch) -> dict[str, Tensor]:
        """Each modality's tokens as one vector a subject, (batch, feature)."""
        return {name: self.encoder(name).summarise(tokens) for name, tokens in embedded.items()}

    def answer(
        self,
        embedded: Batch,
        drop: Callable[[Batch], Batch] | None = None,
        fold: Int[Tensor, " batch"] | None = None,
        trace: Trace | None = None,
    ) -> Answer:
        """Logits from embedded tokens.

        Args:
            embedded: of ``embed``.
            drop: hides tokens before the fusion (training).
            fold: each subject's fold of ``warm_start`` (training).
            trace: notes the attention weights of fusion and head (explanations).
        """
        adapted = {name: self._adapt(name, tokens) for name, tokens in embedded.items()}
        unimodal = evidence = self._evidence(embedded, adapted, fold)
        if drop is not None:
            adapted = drop(adapted)
            evidence = self._evidence(embedded, adapted, fold)
        present = {name: tokens.present for name, tokens in adapted.items()}
        fused = (
            self._attended(adapted, trace)
            + torch.stack(list(evidence.values())).sum(0)
            + self.evidence(evidence, present)
        )
        return Answer(fused, unimodal)

    def _adapt(self, name: str, tokens: Tokens) -> Tokens:
        """A modality's tokens as the fusion takes them; one subject many times over is adapted once."""
        encoder, adapter = self.encoder(name), self._adapter(name)
        alone = type(encoder).forward is TokenEncoder.forward
        if self.training or not alone or not tokens.repeated:
            return adapter(encoder(tokens))
        first = Tokens(tokens.values[:1], tokens.mask[:1], tokens.time[:1])
        values = adapter(first).values
        return tokens.with_values(values.expand(len(tokens), -1, -1))

    def fuse(self, embedded: Batch) -> Float[Tensor, "batch feature"]:
        """What the fusion makes of embedded tokens, before any head reads it; all its tokens in a row."""
        fused = self.fusion({name: self._adapt(name, tokens) for name, tokens in embedded.items()})
        assert isinstance(fused, Tokens)
        return (fused.values * fused.mask[..., None]).flatten(1)

    def _attended(self, adapted: Batch, trace: Trace | None) -> Tensor:
        """What attention across all tokens adds to the logit."""
        if trace is None:
            return self.head(self.fusion(adapted))
        return self.head(self.fusion(adapted, trace), trace)

    def _evidence(self, embedded: Batch, adapted: Batch, fold: Tensor | None) -> dict[str, Tensor]:
        """Each modality's own logit, from the tokens that ``adapted`` shows."""
        found = {}
        for name, tokens in adapted.items():
            shown = embedded[name]
            if tokens.mask.shape == shown.mask.shape and not self.encoder(name).pools:
                shown = shown.with_mask(tokens.mask)
            summary = self.encoder(name).summarise(shown)
            found[name] = self.heads[name](tokens) + self.probe(name)(summary, tokens.present, fold)
        return found

    def baseline(self, embedded: Batch) -> dict[str, Tensor]:
        """An uninformative value for each embedded token."""
        return {name: self._baseline(name, tokens) for name, tokens in embedded.items()}

    @torch.no_grad()
    def initialise(self, batch: Batch) -> None:
        """Fit each adapter's mean, scale and projection to a batch of training subjects."""
        for name, tokens in self.embed(batch).items():
            if type(self.encoder(name)).forward is TokenEncoder.forward:
                self._adapter(name).initialise(tokens.values[tokens.mask].float())

    def probe(self, name: str) -> Probe:
        """The linear model of a modality."""
        probe = self.probes[name]
        assert isinstance(probe, Probe)
        return probe

    def pretrained(self) -> Iterator[nn.Parameter]:
        """Parameters of all encoders that came trained."""
        for name in self.encoders:
            yield from self.encoder(name).pretrained()

    def head_bias(self) -> Float[Tensor, " cls"]:
        """The class prior in log odds, which the modalities' own logits leave out."""
        return self.head.bias

    def encoder(self, name: str) -> TokenEncoder:
        """The encoder of a modality."""
        encoder = self.encoders[name]
        assert isinstance(encoder, TokenEncoder)
        return encoder

    def _adapter(self, name: str) -> Adapter:
        adapter = self.adapters[name]
        assert isinstance(adapter, Adapter)
        return adapter

    def _baseline(self, name: str, tokens: Tokens) -> Tensor:
        encoder = self.encoder(name)
        if type(encoder).forward is TokenEncoder.forward and type(encoder).baseline is TokenEncoder.baseline:
            return self._adapter(name).mean.expand(tokens.values.shape).clone()
        return encoder.baseline(tokens)


class FusionModel(nn.Module):
    """The shipped model: one or more members whose logits are averaged, then calibrated.

    ``model(batch)`` gives calibrated logits; ``model.probabilities(logits)`` the probabilities.
    """

    slope: Tensor
    intercept: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.members = nn.ModuleList(FusionNetwork(spec) for _ in range(spec.model.members))
        classes = len(spec.task.classes)
        self.register_buffer("slope", torch.ones(classes))
        self.register_buffer("intercept", torch.zeros(classes))
        self.digest = "unsaved"

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that it can read."""
        return tuple(self.spec.modalities)

    @property
    def classes(self) -> tuple[str, ...]:
        """A name for each logit."""
        return self.spec.task.classes

    @property
    def task_name(self) -> str:
        """What it predicts."""
        return self.spec.task.name

    @property
    def kind(self) -> str:
        """``binary``, ``multiclass`` or ``multilabel``."""
        return self.spec.task.kind

    @property
    def statistics(self) -> dict[str, Statistics]:
        """What each modality's ``fit`` learned from the training subjects."""
        return self.spec.statistics

    @property
    def encoders(self) -> nn.ModuleDict:
        """The first member's encoders by modality."""
        encoders = self._member(0).encoders
        assert isinstance(encoders, nn.ModuleDict)
        return encoders

    def embed(self, batch: Batch) -> Batch:
        """Raw tokens -> embedded tokens, from which ``logits`` goes on.

        Members that train their own embedding lie side by side in the last dimension.
        """
        return self._side_by_side([member.embed(self._known(batch)) for member in self._all()])

    def baseline(self, embedded: Batch) -> Batch:
        """Uninformative tokens in the places of ``embedded``: where a path integral starts."""
        parts = []
        for member, own in zip(self._all(), self._apart(embedded), strict=True):
            values = member.baseline(own)
            parts.append({name: own[name].with_values(value) for name, value in values.items()})
        return self._side_by_side(parts)

    def logits(self, embedded: Batch, traces: list[Trace] | None = None) -> Float[Tensor, "batch cls"]:
        """Embedded tokens -> calibrated logits, the mean over members.

        Args:
            embedded: of ``embed``.
            traces: one of each member is appended, with the attention weights of its fusion and head.
        """
        raw = []
        for member, own in zip(self._all(), self._apart(embedded), strict=True):
            trace = None if traces is None else Trace()
            raw.append(member.answer(own, trace=trace).fused)
            if traces is not None and trace is not None:
                traces.append(trace)
        return self.calibrate(torch.stack(raw).mean(0))

    def fused(self, embedded: Batch) -> Float[Tensor, "batch feature"]:
        """Where each subject lies in the fused representation, members side by side.

        Args:
            embedded: of ``embed``, or some of its modalities: then as if nobody had the others.
        """
        parts = [member.fuse(own) for member, own in zip(self._all(), self._apart(embedded), strict=True)]
        return torch.cat(parts, dim=1)

    def reading(self, embedded: Batch) -> list[dict[str, Tensor]]:
        """How far each token of the fusion comes from each embedded one, a member and modality.

        Each is (batch, token of the fusion, embedded token) with rows that sum to one, or zero where
        the token is padding. The fusion's tokens stand in the order of ``embedded`` and of a trace.
        """
        return [
            {name: member.encoder(name).reading(tokens) for name, tokens in own.items()}
            for member, own in zip(self._all(), self._apart(embedded), strict=True)
        ]

    def forward(self, batch: Batch) -> Float[Tensor, "batch cls"]:
        """Raw tokens -> calibrated logits."""
        return self.logits(self.embed(batch))

    def calibrate(self, logits: Float[Tensor, "batch cls"]) -> Float[Tensor, "batch cls"]:
        """Platt scaling a class (one slope for all where classes exclude each other)."""
        return logits * self.slope + self.intercept

    def probabilities(self, logits: Float[Tensor, "batch cls"]) -> Float[Tensor, "batch cls"]:
        """Calibrated logits -> probabilities."""
        return self.spec.task.probabilities(logits)

    def save_pretrained(self, folder: Path) -> str:
        """Write ``config.json`` and ``model.safetensors``; gives the digest of both."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: value.contiguous().clone() for name, value in self.state_dict().items()}
        partial = folder / f".{_WEIGHTS}.partial"
        save_file(state, partial, metadata={"format": "pt"})
        partial.replace(folder / _WEIGHTS)
        write_text(folder / _CONFIG, json.dumps(self.spec.to_json(), indent=1, sort_keys=True) + "\n")
        self.digest = model_digest(folder)
        return self.digest

    @classmethod
    def from_pretrained(cls, folder: Path) -> FusionModel:
        """Load what ``save_pretrained`` wrote, ready to predict.

        Raises:
            ModelError: a file is missing, or weights and configuration do not belong together.
        """
        try:
            value = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError) as error:
            raise ModelError(f"{folder / _CONFIG} cannot be read: {error}.") from error
        if value.get("format") != _FORMAT:
            raise ModelError(f"{folder} holds {value.get('format')!r}; this version reads {_FORMAT!r}.")
        model = cls(ModelSpec.from_json(value))
        try:
            model.load_state_dict(load_file(folder / _WEIGHTS))
        except (OSError, RuntimeError) as error:
            raise ModelError(f"{folder / _WEIGHTS} does not fit its config.json: {error}") from error
        model.digest = model_digest(folder)
        return model.eval()

    def _all(self) -> list[FusionNetwork]:
        return [self._member(index) for index in range(len(self.members))]

    def _member(self, index: int) -> FusionNetwork:
        member = self.members[index]
        assert isinstance(member, FusionNetwork)
        return member

    def _shared(self, name: str) -> bool:
        return type(self._member(0).encoder(name)).embed is TokenEncoder.embed

    def _known(self, batch: Batch) -> Batch:
        known = {name: tokens for name, tokens in batch.items() if name in self.spec.modalities}
        if not known:
            raise ModelError(f"the batch holds none of the model's modalities ({self.modalities}).")
        return known

    def _side_by_side(self, parts: list[Batch]) -> Batch:
        first = parts[0]
        return {
            name: tokens
            if self._shared(name) or len(parts) == 1
            else tokens.with_values(torch.cat([part[name].values for part in parts], dim=2))
            for name, tokens in first.items()
        }

    def _apart(self, embedded: Batch) -> list[Batch]:
        count = len(self.members)
        pieces = {
            name: [tokens.values] * count if self._shared(name) else tokens.values.chunk(count, dim=2)
            for name, tokens in embedded.items()
        }
        return [
            {name: tokens.with_values(pieces[name][index]) for name, tokens in embedded.items()}
            for index in range(count)
        ]


@torch.no_grad()
def model_digest(folder: Path) -> str:
    """Digest of a saved model: of its configuration and its weights."""
    return digest_bytes((digest_file(folder / _CONFIG) + digest_file(folder / _WEIGHTS)).encode("ascii"))
