"""The stage ``encode``: what was known at the index time becomes tokens.

For each modality: ``cohort.window.visible`` cuts (law 1), the modality encodes, and the rows lie
in ``encode/<modality>/tokens.parquet`` beside ``values.npy``. Frozen encoders keep their tokens
in the token cache, so a killed run goes on where it stopped.
"""

from __future__ import annotations

import io
import json
import shutil
from collections import Counter
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clinimm.cohort.stage import read_spec
from clinimm.cohort.window import visible
from clinimm.core.errors import ConfigError, DataError, Refusal
from clinimm.core.pseudonym import load_pseudonymiser
from clinimm.core.record import write_bytes, write_text
from clinimm.modalities import all_modalities
from clinimm.modality import EncodeContext, Encoded, Modality
from clinimm.progress import Progress
from clinimm.sources import build_sources
from clinimm.sources.base import Opener
from clinimm.workspace import Workspace

if TYPE_CHECKING:
    from clinimm.cohort.spec import CohortSpec
    from clinimm.config import ModalityConfig

STAGE = "encode"


def run(workspace: Workspace, progress: Progress) -> dict[str, Any]:
    """Write ``encode/``: tokens and values of every modality that somebody has, index and refusals.

    A modality that the cohort file does not name under ``inputs``, or that is not enabled, is left
    out; one of which nobody has anything visible stands in ``index.json`` with no rows.

    Returns:
        The content of ``index.json`` and each modality's counts, such as ``cache_hits``: they go
        into the record, not into the index, so that equal tokens have equal files.

    Raises:
        ConfigError: the cohort file names a modality that is not known.
        DataError: nothing at all is visible of anybody.
    """
    events = pd.read_parquet(workspace.need("ingest", "events.parquet"))
    cohort = pd.read_parquet(workspace.need("cohort", "cohort.parquet"))
    spec = read_spec(workspace.need("cohort", "spec.json").parent)
    folder = workspace.stage(STAGE)
    index: dict[str, Any] = {}
    counts: dict[str, Any] = {}
    refusals: dict[str, tuple[Refusal, ...]] = {}
    for modality in _modalities(workspace, spec):
        name = modality.name
        own = visible(events, cohort, spec, name)
        encoded = _encode(modality, own, workspace, progress)
        refusals[name] = encoded.refusals
        index[name] = _summary(encoded, own, workspace.config.modality(name))
        counts[name] = dict(encoded.counts)
        progress.say(_sentence(name, index[name]))
        shutil.rmtree(folder / name, ignore_errors=True)
        if len(encoded.tokens):
            _write(folder / name, encoded)
    _remove_others(folder, index)
    if not any(entry["rows"] for entry in index.values()):
        raise DataError(
            "no subject has anything visible at its index time in any modality; "
            "see `inputs` in the cohort file."
        )
    write_parquet(folder / "refusals.parquet", _refusal_table(refusals))
    write_text(folder / "index.json", json.dumps(index, indent=1, sort_keys=True) + "\n")
    return {name: {**entry, **counts[name]} for name, entry in index.items()}


def _modalities(workspace: Workspace, spec: CohortSpec) -> list[Modality]:
    known = all_modalities(workspace.config.plugins)
    if unknown := sorted(set(spec.inputs) - set(known)):
        raise ConfigError(
            f"the cohort file names {', '.join(unknown)} under inputs; "
            f"known modalities are {', '.join(known)}."
        )
    return [
        modality
        for name, modality in known.items()
        if name in spec.inputs and workspace.config.modality(name).enabled
    ]


def _encode(modality: Modality, events: pd.DataFrame, workspace: Workspace, progress: Progress) -> Encoded:
    if events.empty:
        return Encoded(events[["subject_id", "time_hours"]], np.zeros((0, 0), dtype=np.float16))
    config = workspace.config
    context = EncodeContext(
        config=config.modality(modality.name),
        opener=Opener(build_sources(config), load_pseudonymiser(config.ingest.pseudonym_key_file)),
        cache_dir=workspace.cache,
        batch_size=config.encode.batch_size,
        progress=progress,
    )
    encoded = modality.encode(events, context)
    if len(encoded.tokens) != len(encoded.values):
        raise DataError(
            f"{modality.name} gave {len(encoded.tokens)} rows of tokens and {len(encoded.values)} of values."
        )
    return encoded


def _write(folder: Path, encoded: Encoded) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / ".values.npy.partial"
    with partial.open("wb") as stream:
        np.save(stream, encoded.values, allow_pickle=False)
    partial.replace(folder / "values.npy")
    write_parquet(folder / "tokens.parquet", encoded.tokens)


def _remove_others(folder: Path, index: dict[str, Any]) -> None:
    """Tokens of an earlier run with other modalities must not reach the model."""
    for path in folder.iterdir():
        if path.is_dir() and path.name not in index:
            shutil.rmtree(path)


def _summary(encoded: Encoded, events: pd.DataFrame, config: ModalityConfig) -> dict[str, Any]:
    reasons = Counter(refusal.code for refusal in encoded.refusals)
    return {
        "rows": len(encoded.tokens),
        "subjects": int(encoded.tokens["subject_id"].nunique()),
        "events": len(events),
        "encoder": config.encoder.name or "default",
        "refused": dict(sorted(reasons.items())),
    }


def _sentence(name: str, entry: dict[str, Any]) -> str:
    refused = sum(entry["refused"].values())
    return f"  {name}: {entry['rows']} tokens of {entry['subjects']} subjects" + (
        f", {refused} items could not be encoded" if refused else ""
    )


def _refusal_table(refusals: dict[str, tuple[Refusal, ...]]) -> pd.DataFrame:
    rows = [{"modality": name, **asdict(one)} for name, several in refusals.items() for one in several]
    columns = ["modality", *(field.name for field in fields(Refusal))]
    return pd.DataFrame(rows, columns=columns, dtype="str").sort_values(columns)


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """A table as Parquet, whole or not at all; equal tables give equal bytes."""
    buffer = io.BytesIO()
    table.reset_index(drop=True).to_parquet(buffer, index=False)
    write_bytes(path, buffer.getvalue())
