"""The registered model as MLflow loads it: code from this file, weights from safetensors.

MLflow runs this file to find the model (models-from-code), so nothing is ever unpickled. The
model is the whole path of a finished run: give it folders with a hospital's export, and it reads,
selects, cuts at the index time, encodes and scores them, fitting nothing::

    model = mlflow.pyfunc.load_model("models:/NAME@champion")
    model.predict(pd.DataFrame({"export": ["/data/export"]}))
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel
from mlflow.pyfunc.model import PythonModelContext

#: Columns of what ``predict`` returns, beside ``export``.
ANSWER = (
    "subject_id",
    "index_time",
    "task",
    "class_name",
    "probability",
    "modalities_present",
    "model_digest",
    "trained_on",
)


class ExportScorer(PythonModel):
    """Scores hospital exports with the bundle that was registered."""

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Score each folder in the column ``export``; one row a subject and class.

        ``subject_id`` is a pseudonym under the key of the machine that predicts; ``index_time`` is
        ISO 8601, UTC. ``trained_on`` is ``yes`` for whom the model was fitted to, so that no figure is
        made of them; ``unknown`` where the key differs from the training's.
        """
        bundle = Path(context.artifacts["bundle"])
        return pd.concat(
            [_score(bundle, Path(str(export))) for export in model_input["export"]], ignore_index=True
        )


def _score(bundle: Path, export: Path) -> pd.DataFrame:
    from clinimm.progress import QUIET
    from clinimm.score import TRAINED_ON, load_bundle, score_export

    with tempfile.TemporaryDirectory(prefix="clinimm-score-") as folder:
        scored = score_export(load_bundle(bundle), export, Path(folder), QUIET)
        answer = pd.read_parquet(scored.predictions)
        known = scored.overlap.trained_on is not None
    answer["trained_on"] = (answer["split"] == TRAINED_ON).map(
        {True: "yes", False: "no" if known else "unknown"}
    )
    answer = answer[list(ANSWER)]
    answer["index_time"] = answer["index_time"].map(lambda time: time.isoformat())
    answer.insert(0, "export", str(export))
    return answer


mlflow.models.set_model(ExportScorer())
