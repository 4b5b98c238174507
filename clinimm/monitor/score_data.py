"""New data as an export of files: scored by the deployed model below the run, then read like any run."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from clinimm.lock import locked
from clinimm.monitor.read_run import read_run
from clinimm.monitor.snapshot import Snapshot

if TYPE_CHECKING:
    from clinimm.config import PipelineConfig
    from clinimm.progress import Progress

FOLDER = "monitor"


def score_folder(config: PipelineConfig, export: Path, progress: Progress) -> Snapshot:
    """Score an export with the run's model, below ``runs/NAME/monitor``, and read what came of it.

    Subjects whom the model was fitted to are left out. The export may lack every label.

    Raises:
        ConfigError: there is no such folder, or the run is for virtual staining.
        DataError: nobody in the export meets the cohort's rules.
        MissingStageError: the run has no model.
    """
    from clinimm.origin import read_origin
    from clinimm.score import Bundle, score_export
    from clinimm.workspace import Workspace

    config.require_diagnosis("`clinimm monitor`")
    workspace = Workspace(config)
    model = workspace.need("train", "model")
    shared = config.encode.model_copy(update={"cache_dir": workspace.cache.absolute()})
    reading = read_origin(model).reading(config.model_copy(update={"encode": shared}), ())
    place = workspace.root / FOLDER / _name(export)
    with locked(place):
        score_export(Bundle(reading, model), export, place, progress)
        return read_run(place)


def _name(export: Path) -> str:
    """A folder name that tells exports of the same name apart."""
    path = export.absolute()
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", path.name).lstrip("._-") or "export"
    return f"{plain}-{hashlib.sha256(str(path).encode('utf-8')).hexdigest()[:8]}"
