"""A dense toy modality and a corpus with a planted answer, for tests of the network's rooms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import numpy as np
import pandas as pd

from clinimm.config import ModalityConfig, ModelConfig
from clinimm.core.attribution import Place
from clinimm.modality import Encoded, Modality, Scan
from clinimm.model import ModelSpec
from clinimm.nn.encoder import TokenEncoder
from clinimm.tasks.diagnosis import Task

DIM = 6


class ToyEncoder(TokenEncoder):
    """Passes tokens on as they are."""

    dim = DIM


def toy_modality(name: str) -> Modality:
    """Tokens are numbers that the test made; nothing is read from a file."""
    return Modality(
        name=name,
        title=name,
        extra="dev",
        accepts=lambda path, head: False,
        scan=lambda source, file: Scan(),
        encode=lambda events, context: Encoded(events, np.zeros((len(events), DIM), np.float32)),
        fit=lambda encoded, config: {},
        build_encoder=lambda config, statistics: ToyEncoder(),
        locate=lambda row, cell: Place("event", None, (), str(row["subject_id"]), 0.0),
    )


@contextmanager
def toy_modalities() -> Iterator[None]:
    """Let every name mean a toy modality."""
    find = lambda name, plugins=(): toy_modality(name)  # noqa: E731
    with ExitStack() as stack:
        for room in ("model", "corpus", "fit", "controls"):
            stack.enter_context(mock.patch(f"clinimm.{room}.get_modality", find))
        yield


def toy_table(subjects: list[str], signal: np.ndarray, seed: int, tokens: int = 3) -> Encoded:
    """``tokens`` rows a subject; the first channel of each holds the subject's signal."""
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(len(subjects), tokens, DIM)).astype(np.float32)
    values[:, :, 0] += signal[:, None]
    rows = pd.DataFrame(
        {
            "subject_id": np.repeat(subjects, tokens),
            "time_hours": np.tile(np.arange(tokens)[::-1].astype(float), len(subjects)),
        }
    )
    return Encoded(rows, values.reshape(-1, DIM))


def toy_spec(names: tuple[str, ...], task: Task | None = None, **model: object) -> ModelSpec:
    """A small model over toy modalities."""
    settings = {"width": 16, "heads": 2, "latents": 4, "layers": 2, "members": 1, **model}
    return ModelSpec(
        task=task or Task("toy", "binary", ("yes",)),
        model=ModelConfig.model_validate(settings),
        modalities={name: ModalityConfig() for name in names},
        statistics={name: {"raw_dim": DIM} for name in names},
        plugins=(),
        provenance={},
    )
