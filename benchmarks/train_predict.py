"""How fast a model trains and answers, where the time goes, and how far that is from the bound.

    .venv/bin/python benchmarks/train_predict.py [--subjects N] [--patients N] [--work FOLDER]

On a simulated hospital and the settings of ``pipelines/demo.yaml``. Training: subjects/s through the
product's own loop, against a plain ``torch.nn.TransformerEncoder`` of the same width, layers and tokens
that is trained on random numbers. Prediction: one patient at a time, from tokens that lie there (against
the same plain transformer, forward) and from the hospital's files (against a bare forward of the image
encoder over the same pictures), and all patients in batches. One thread. Parts exclude each other.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from clinimm.config import ModelConfig, PipelineConfig, load_pipeline
from clinimm.corpus import Corpus
from clinimm.modality import Encoded
from clinimm.model import FusionModel, FusionNetwork
from clinimm.nn.encoder import TokenEncoder
from clinimm.nn.image import ImageEncoder
from clinimm.nn.tokens import Batch
from clinimm.pipeline import run_pipeline
from clinimm.progress import QUIET
from clinimm.tables import Cohort, load_cohort
from clinimm.train import TrainingSet, train_member
from clinimm.workspace import Workspace

ROOT = Path(__file__).parents[1]
_EPOCHS = 6
#: Functions of the product that are a part of their own, in the modules that call them.
_FUNCTIONS = {
    "clinimm.modalities.notes.encoder.load_text_encoder": "loading networks",
    "clinimm.modalities.radiology.encoder.load_image_encoder": "loading networks",
    "clinimm.modalities.pathology.encoder.load_image_encoder": "loading networks",
    "clinimm.nn.image.digest_weights": "loading networks",
    "clinimm.modalities.notes.language_model.digest_weights": "loading networks",
    "clinimm.modalities.notes.language_model._read": "text encoder",
    "clinimm.modalities.radiology.encoder.load_frames": "reading films",
    "clinimm.modalities.pathology.encoder._tiles": "reading slides",
}


@dataclass
class Stopwatch:
    """Seconds a part, exclusive: what a part calls that is a part itself is not counted twice."""

    seconds: dict[str, float] = field(default_factory=dict)
    _open: list[tuple[str, float]] = field(default_factory=list)

    def timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """``call``, and its time on ``part``."""

        @functools.wraps(call)
        def wrapped(*arguments: Any, **named: Any) -> Any:
            with self.part(part):
                return call(*arguments, **named)

        return wrapped

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the block's time on ``name``."""
        now = time.perf_counter()
        if self._open:
            outer, since = self._open[-1]
            self._add(outer, now - since)
        self._open.append((name, now))
        try:
            yield
        finally:
            now = time.perf_counter()
            self._add(name, now - self._open.pop()[1])
            if self._open:
                self._open[-1] = (self._open[-1][0], now)

    def _add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds


@contextmanager
def watched(watch: Stopwatch) -> Iterator[None]:
    """Time the product's own functions wherever they are called."""
    parts = [
        (Corpus, "batch", "data"),
        (FusionNetwork, "embed", "encoder"),
        (TokenEncoder, "__call__", "encoder"),
        (FusionNetwork, "answer", "fusion and heads"),
        (ImageEncoder, "features", "image encoder"),
        (ImageEncoder, "grid", "loading networks"),
        (torch.Tensor, "backward", "backward"),
        (torch.optim.AdamW, "step", "optimiser"),
    ]
    with ExitStack() as stack:
        for owner, name, part in parts:
            timed = watch.timed(part, getattr(owner, name))
            stack.enter_context(mock.patch.object(owner, name, timed))
        for place, part in _FUNCTIONS.items():
            module, _, name = place.rpartition(".")
            stack.enter_context(mock.patch(place, watch.timed(part, getattr(import_module(module), name))))
        yield


def prepare(work: Path, subjects: int) -> PipelineConfig:
    """A simulated hospital and a run over it, up to the trained model; kept for the next time."""
    from clinimm.simulate.hospital import simulate

    hospital = work / f"hospital-{subjects}"
    if not (hospital / "truth.json").is_file():
        simulate(hospital, subjects, 7, "mixed", workers=1)
    own = (f"name=speed-{subjects}", f"runs_dir={work}", f"sources=[{{kind: local, root: '{hospital}'}}]")
    training = ("train.epochs=4", "train.single_modality=false", "train.workers=1", "ingest.workers=1")
    config = load_pipeline(ROOT / "pipelines" / "demo.yaml", (*own, *training))
    run_pipeline(config, until_stage="train", progress=QUIET)
    return config


class PlainTransformer(nn.Module):
    """The peer: as many layers of ``nn.TransformerEncoder`` and one linear answer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        layer = nn.TransformerEncoderLayer(
            width, config.heads, 4 * width, config.dropout, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        self.out = nn.Linear(width, 1)

    def forward(self, values: Tensor, hidden: Tensor) -> Tensor:
        """(batch, token, width) -> (batch, 1)."""
        return self.out(self.layers(values, src_key_padding_mask=hidden).mean(1))


def shapes(batches: Sequence[Batch], width: int) -> list[tuple[Tensor, Tensor]]:
    """Random tokens of the fusion's width, as many as each batch has, and its padding."""
    found = []
    for batch in batches:
        mask = torch.cat([tokens.mask for tokens in batch.values()], dim=1)
        found.append((torch.randn(*mask.shape, width), ~mask))
    return found


def train(corpus: Corpus, cohort: Cohort, model: FusionModel, config: PipelineConfig) -> None:
    """Training: the product's loop, its parts, and the peer on as many tokens."""
    data = TrainingSet(corpus, model.spec, cohort.targets)
    subjects = cohort.labelled
    settings = config.train.model_copy(update={"epochs": _EPOCHS, "patience": _EPOCHS})
    warm = settings.model_copy(update={"epochs": 1})
    train_member(data, subjects, (), warm, seed=0)
    watch = Stopwatch()
    with watched(watch), watch.part("rest"):
        train_member(data, subjects, (), settings, seed=0)
    ours = _EPOCHS * len(subjects) / sum(watch.seconds.values())
    size = settings.batch_size
    batches = [data.batch(subjects[start : start + size]) for start in range(0, len(subjects), size)]
    peer = PlainTransformer(config.model)
    optimiser = torch.optim.AdamW(peer.parameters())
    tokens = shapes(batches, config.model.width)
    start = time.perf_counter()
    for _ in range(_EPOCHS):
        for values, hidden in tokens:
            loss = peer(values, hidden).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    theirs = _EPOCHS * len(subjects) / (time.perf_counter() - start)
    mean = float(np.mean([tokens.mask.sum().item() for batch in batches for tokens in batch.values()]))
    mean *= len(batches[0]) / size
    print(f"\nTraining, {len(subjects)} subjects, about {mean:.0f} tokens each, batches of {size}")
    print(f"  one network     {ours:9.0f} subjects/s ({1000 * size / ours:.0f} ms a step)")
    print(f"  plain transformer {theirs:7.0f} subjects/s; ours is {ours / theirs:.2f} x")
    _shares(watch)


def predict_from_tokens(corpus: Corpus, model: FusionModel, subjects: Sequence[str]) -> None:
    """One subject at a time and in batches, from encoded tokens."""
    peer = PlainTransformer(model.spec.model).eval()
    corpus.batch(subjects[:1], model.statistics)
    with torch.inference_mode():
        tokens = shapes([corpus.batch([one], model.statistics) for one in subjects], model.spec.model.width)
        theirs = [_seconds(functools.partial(peer, *pair)) for pair in tokens]
        model(corpus.batch(subjects[:1], model.statistics))
        watch, ours = Stopwatch(), []
        with watched(watch):
            for one in subjects:
                start = time.perf_counter()
                with watch.part("rest"):
                    model.probabilities(model(corpus.batch([one], model.statistics)))
                ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        for first in range(0, len(subjects), 64):
            model(corpus.batch(subjects[first : first + 64], model.statistics))
        whole = time.perf_counter() - start
    members = len(model.members)
    ratio = np.median(ours) / np.median(theirs) / members
    print(f"\nPrediction from tokens, {len(subjects)} patients, {members} networks")
    print(f"  one patient     {_quantiles(ours)}; {ratio:.1f} x a plain transformer a network")
    print(f"  batches of 64   {len(subjects) / whole:9.0f} patients/s")
    _shares(watch)


def predict_from_files(workspace: Workspace, cohort: Cohort, model: FusionModel, subjects: list[str]) -> None:
    """One subject at a time from the hospital's files: cut, read, encode, answer; nothing cached."""
    reader = _Reader(workspace)
    with tempfile.TemporaryDirectory() as warm:
        reader.answer(model, subjects[0], Path(warm))
    watch, ours, bounds, pictures = Stopwatch(), [], [], []
    for one in subjects:
        seen: list[np.ndarray] = []
        with tempfile.TemporaryDirectory() as cache, _remembered(seen), watched(watch):
            start = time.perf_counter()
            with watch.part("rest"):
                reader.answer(model, one, Path(cache))
            ours.append(time.perf_counter() - start)
        bounds.append(_bare_forward(seen))
        pictures.append(sum(map(len, seen)))
    ratio = np.median(ours) / np.median(bounds)
    count = np.mean(pictures)
    print(f"\nPrediction from files, {len(subjects)} patients, {count:.1f} pictures each, nothing cached")
    print(f"  one patient     {_quantiles(ours)}; {ratio:.1f} x the image encoder's bare forward")
    print(f"  bare forward    {_quantiles(bounds)}")
    _shares(watch)


class _Reader:
    """A run's events and settings, and one subject's way from them to a probability."""

    def __init__(self, workspace: Workspace) -> None:
        import pandas as pd

        from clinimm.cohort.stage import read_spec
        from clinimm.core.pseudonym import load_pseudonymiser
        from clinimm.sources import build_sources
        from clinimm.sources.base import Opener

        self.config = workspace.config
        events = pd.read_parquet(workspace.need("ingest", "events.parquet"))
        self.events = dict(iter(events.groupby("subject_id")))
        self.cohort = pd.read_parquet(workspace.need("cohort", "cohort.parquet"))
        self.spec = read_spec(workspace.root / "cohort")
        self.opener = Opener(build_sources(self.config), load_pseudonymiser())

    def answer(self, model: FusionModel, subject: str, cache: Path) -> Tensor:
        """The probability of one subject."""
        from clinimm.cohort.window import visible
        from clinimm.modalities import get_modality
        from clinimm.modality import EncodeContext

        own = self.cohort[self.cohort["subject_id"] == subject]
        tables: dict[str, Encoded] = {}
        for name in model.modalities:
            events = visible(self.events[subject], own, self.spec, name)
            if len(events):
                context = EncodeContext(self.config.modality(name), self.opener, cache, 32, QUIET)
                tables[name] = get_modality(name).encode(events, context)
        batch = Corpus(tables).batch([subject], model.statistics)
        with torch.inference_mode():
            return model.probabilities(model(batch))


@contextmanager
def _remembered(seen: list[np.ndarray]) -> Iterator[None]:
    """Keep every batch of pictures that the image encoder is given."""
    features = ImageEncoder.features

    def keeping(self: ImageEncoder, images: np.ndarray) -> np.ndarray:
        seen.append(images)
        return features(self, images)

    with mock.patch.object(ImageEncoder, "features", keeping):
        yield


def _bare_forward(pictures: Sequence[np.ndarray]) -> float:
    """Seconds of the network alone over pictures that lie in memory."""
    from clinimm.nn.image import load_lite0

    trunk = _trunk(load_lite0)
    tensors = [
        torch.from_numpy(np.ascontiguousarray(batch, dtype=np.float32)).contiguous(
            memory_format=torch.channels_last
        )
        for batch in pictures
    ]
    with torch.inference_mode():
        return _seconds(lambda: [trunk(batch) for batch in tensors])


@functools.lru_cache(maxsize=1)
def _trunk(load: Callable[[], ImageEncoder]) -> nn.Module:
    return load().trunk


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _quantiles(seconds: Sequence[float]) -> str:
    middle, high = np.quantile(seconds, (0.5, 0.95)) * 1000
    return f"p50 {middle:.1f} ms, p95 {high:.1f} ms"


def _shares(watch: Stopwatch) -> None:
    whole = sum(watch.seconds.values())
    parts = sorted(watch.seconds.items(), key=lambda item: -item[1])
    print("  time in         " + ", ".join(f"{name} {100 * value / whole:.0f} %" for name, value in parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--subjects", type=int, default=200, help="patients of the hospital")
    parser.add_argument("--patients", type=int, default=40, help="patients that are predicted one by one")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "benchmarks", help="kept between runs")
    given = parser.parse_args()
    torch.set_num_threads(1)
    config = prepare(given.work.absolute(), given.subjects)
    workspace = Workspace(config)
    cohort = load_cohort(workspace)
    corpus = Corpus.load(workspace.root / "encode")
    model = FusionModel.from_pretrained(workspace.root / "train" / "model")
    subjects = list(cohort.labelled[: given.patients])
    train(corpus, cohort, model, config)
    predict_from_tokens(corpus, model, subjects)
    predict_from_files(workspace, cohort, model, subjects)


if __name__ == "__main__":
    main()
