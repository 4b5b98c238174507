"""What a run gives the detectors to look at: how images were made, what the model keeps, and when.

``predict`` leaves two tables for it. ``metadata.parquet`` says how each subject's images were made, as the
control ``metadata_only`` sees it. ``embeddings.parquet`` is where each held-out subject lies in the fused
representation of the model that did not see it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int
from numpy import ndarray
from numpy.typing import NDArray

from clinimm.audit.detect.detect import Extras, Signals, detect
from clinimm.audit.engine.rows import Coded, Rows
from clinimm.audit.groups import MISSING, RENAMED, levels_of
from clinimm.audit.run_rows import PRESENT, subjects_of
from clinimm.audit.run_studies import Judged
from clinimm.audit.table.list_groups import HAS
from clinimm.audit.table.study import Study
from clinimm.config import AuditConfig
from clinimm.core.errors import ConfigError
from clinimm.evaluate.panel import panel_of

METADATA_NAME, EMBEDDINGS_NAME = "metadata.parquet", "embeddings.parquet"
OTHER = "(other)"
#: Levels of metadata with fewer rows are one level: a probe could not tell them anyway.
_FEWEST = 10
#: Directions of the embedding of one fit; more than a tenth of its rows would only fit noise.
_DIRECTIONS = 20
_A_PERIOD = 50


@dataclass(frozen=True)
class Kept:
    """What ``predict`` left for the detectors, one row a subject; empty where an earlier version predicted.

    Attributes:
        metadata: a column for each fact of how images were made.
        embeddings: ``fold`` and a column for each number.
    """

    metadata: pd.DataFrame
    embeddings: pd.DataFrame

    @classmethod
    def read(cls, folder: Path) -> Kept:
        """From the folder of the predict stage."""
        return cls(*(_read(folder / name) for name in (METADATA_NAME, EMBEDDINGS_NAME)))


def signals_of_run(
    studies: Mapping[str, Study],
    predictions: pd.DataFrame,
    judged: Judged,
    kept: Kept,
    settings: AuditConfig,
) -> dict[str, Signals]:
    """Run the detectors on every class of a run.

    Slices are searched over the attributes, which modalities there are, and how images were made. The
    embedding is probed once, for the first class.

    Args:
        studies: class -> its figures.
        predictions: the held-out rows that they come from.
        judged: what they are judged by.
        kept: what ``predict`` left.
        settings: of the pipeline.

    Raises:
        ConfigError: ``audit.metadata`` or ``audit.outcome`` names no attribute of the cohort.
    """
    found = {}
    panel = panel_of(predictions, judged.classes, judged.kind)
    day = predictions.drop_duplicates("subject_id").set_index("subject_id")["index_time"]
    for index, name in enumerate(judged.classes):
        subjects = subjects_of(panel.one(index))
        rows = studies[name].rows
        asked = Kept(kept.metadata, kept.embeddings if index == 0 else _NOTHING)
        extras = _extras(rows, subjects, judged.cohort, asked, settings)
        periods = min(judged.policy.table.detect.periods, len(day) // _A_PERIOD)
        period = _periods(day.loc[subjects.tolist()], periods) if periods >= 3 else None
        found[name] = detect(
            _sliced(rows),
            judged.points[name].threshold,
            Extras(**(vars(extras) | {"period": period})),
            judged.policy.table.detect.model_copy(update={"slices": True}),
            seed=judged.policy.table.seed,
        )
    return found


_NOTHING = pd.DataFrame()


def _extras(
    rows: Rows, subjects: NDArray[np.object_], cohort: pd.DataFrame, kept: Kept, settings: AuditConfig
) -> Extras:
    metadata = {
        RENAMED.get(str(name), str(name)): _coded(kept.metadata[name], subjects) for name in kept.metadata
    }
    known = levels_of(cohort, subjects.tolist())
    for name in settings.metadata:
        metadata[name] = _coded(pd.Series(_named(known, name, "audit.metadata"), subjects), subjects)
    metadata = {name: column for name, column in metadata.items() if len(column.levels) > 1}
    people = {name: column for name, column in rows.attributes.items() if not _is_presence(name)}
    outcome = None
    if settings.outcome is not None:
        values = pd.to_numeric(pd.Series(_named(known, settings.outcome, "audit.outcome")), errors="coerce")
        outcome = (settings.outcome, values.to_numpy(float))
    embedding, fold = _embedding(kept.embeddings, subjects)
    present = rows.attributes[PRESENT].code if PRESENT in rows.attributes else np.zeros(rows.n, np.int64)
    return Extras(
        features={name: column for name, column in metadata.items() if name not in rows.attributes},
        outcome=outcome,
        metadata=metadata,
        embedding=embedding,
        strata=present.astype(np.int64) * (int(fold.max(initial=0)) + 1) + fold,
        targets={**people, **metadata},
    )


def _named(known: Mapping[str, NDArray[np.object_]], name: str, where: str) -> NDArray[np.object_]:
    if name not in known:
        raise ConfigError(
            f"{where}: {name} is no audit attribute of the cohort; there are {', '.join(known)}."
        )
    return known[name]


def _sliced(rows: Rows) -> Rows:
    """Without ``modalities_present``: whether each modality is there says the same in simpler slices."""
    attributes = {name: column for name, column in rows.attributes.items() if name != PRESENT}
    return Rows(rows.label, rows.probability, attributes, rows.cluster, rows.seed, rows.flagged, rows.repeat)


def _is_presence(name: str) -> bool:
    return name == PRESENT or name.startswith(HAS)


def _coded(column: pd.Series, subjects: NDArray[np.object_]) -> Coded:
    """Levels of a fact of the subjects, the rare ones as one."""
    one = column[~column.index.duplicated()].reindex(subjects)
    text = one.where(one.notna(), MISSING).astype(str)
    count = text.map(text.value_counts())
    text = text.where((count >= _FEWEST) | (text == MISSING), OTHER)
    levels = sorted(set(text), key=lambda level: (level in (MISSING, OTHER), level))
    number = {level: place for place, level in enumerate(levels)}
    return Coded(text.map(number).to_numpy(np.int64), tuple(levels))


def _embedding(
    table: pd.DataFrame, subjects: NDArray[np.object_]
) -> tuple[Float64[ndarray, "row feature"] | None, Int[ndarray, " row"]]:
    """The embedding of each row, and the fit that made it.

    Fits have spaces of their own. Each has columns of its own here, its leading directions, with zero for
    the rows of others: so a probe learns from rows of the same fit only.
    """
    if table.empty or not np.isin(subjects, table.index).all():
        return None, np.zeros(len(subjects), dtype=np.int64)
    own = table.loc[subjects.tolist()]
    _, fold = np.unique(own["fold"].to_numpy(), return_inverse=True)
    values = own.drop(columns="fold").to_numpy(float)
    values = np.where(np.isfinite(values), values, 0.0)
    blocks = []
    for number in range(int(fold.max()) + 1):
        here = fold == number
        scores = _directions(values[here])
        block = np.zeros((len(values), scores.shape[1]))
        block[here] = scores
        blocks.append(block)
    together = np.concatenate(blocks, axis=1)
    return (together if together.shape[1] else None), fold.astype(np.int64)


def _directions(values: Float64[ndarray, "row feature"]) -> Float64[ndarray, "row direction"]:
    spread = values.std(axis=0)
    scaled = (values - values.mean(axis=0)) / np.where(spread > 1e-12, spread, 1.0)
    count = min(_DIRECTIONS, len(values) // _FEWEST)
    left, size, right = np.linalg.svd(scaled, full_matrices=False)
    kept = size[:count] > 1e-9
    # The sign of a direction is arbitrary: its largest weight is made positive.
    largest = np.abs(right[:count]).argmax(axis=1)
    sign = np.sign(right[np.arange(len(largest)), largest])
    return np.asarray((left[:, :count] * size[:count] * sign)[:, kept])


def _periods(day: pd.Series, periods: int) -> Coded | None:
    """Parts of equal size in order of the index time; None where they are not three."""
    rank = day.rank(method="average").to_numpy() / (len(day) + 1)
    part = np.minimum((rank * periods).astype(np.int64), periods - 1)
    used, part = np.unique(part, return_inverse=True)
    if len(used) < 3:
        return None
    times = pd.DatetimeIndex(day)
    names = [
        f"{times[part == one].min():%Y-%m-%d} to {times[part == one].max():%Y-%m-%d}"
        for one in range(len(used))
    ]
    if len(set(names)) < len(names):
        return None
    return Coded(part.astype(np.int64), tuple(names))


def _read(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path).set_index("subject_id") if path.is_file() else pd.DataFrame()
