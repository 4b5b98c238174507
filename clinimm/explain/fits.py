"""The fit that held a subject out, taken only where it is the one that predicted it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from clinimm.core.errors import ModelError
from clinimm.model import FusionModel
from clinimm.workspace import Workspace


def fit_folder(workspace: Workspace, target: Any) -> Path:
    """The folder of the fit that held a subject out; ``target`` is a row of ``explained_class``."""
    folder = workspace.root / "train" / "fits" / f"r{target.repeat}-f{target.fold}"
    return folder if folder.is_dir() else workspace.root / "train" / "model"


def by_fit(workspace: Workspace, targets: pd.DataFrame) -> list[tuple[Path, pd.DataFrame]]:
    """Subjects by the folder of the fit that held them out, in the folders' order."""
    fits = [str(fit_folder(workspace, target)) for target in targets.itertuples()]
    order = targets.assign(fit=pd.Series(fits, index=targets.index, dtype=str))
    return [(Path(str(fit)), group) for fit, group in order.groupby("fit", sort=True)]


def load_fit(folder: Path, targets: pd.DataFrame) -> FusionModel:
    """The fit that predicted all of these subjects.

    Args:
        folder: of the fit.
        targets: rows of ``explained_class`` that it held out.

    Raises:
        ModelError: it is not the model that predicted them: it may have trained on them.
    """
    model = FusionModel.from_pretrained(folder)
    check_predicted_by(model, folder, targets)
    return model


def check_predicted_by(model: FusionModel, folder: Path, targets: pd.DataFrame) -> None:
    """Refuse to speak of subjects by another model than the one that predicted them.

    Raises:
        ModelError: a prediction has another digest.
    """
    others = sorted(set(targets["model_digest"].astype(str)) - {model.digest})
    if others:
        raise ModelError(
            f"{folder} is model {model.digest[:12]}, but held-out predictions are of "
            f"{', '.join(one[:12] for one in others)}: the fit that predicted them is gone or changed, and "
            "this one may have trained on these subjects. Run `clinimm train` and `clinimm predict` again."
        )
