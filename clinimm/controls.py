"""The simple rivals of law 5, fitted to the same subjects as the model that they check.

``linear:<modality>``   logistic regression on one modality's summary
``late_fusion``         mean probability of the linear models of the modalities that are there
``gradient_boosting``   gradient-boosted trees on all summaries side by side
``missingness_only``    what was recorded, not what was found: a signal here is practice, not disease
``metadata_only``       how images were made (site, device, view): a signal here is a shortcut

Everything that is learned (words, means, principal axes, categories) is learned from training
subjects; fine-tuned image encoders are the exception that `_once` explains.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from clinimm.cohort.stage import read_spec
from clinimm.cohort.window import visible
from clinimm.config import PipelineConfig
from clinimm.core.prediction import PREDICTION_COLUMNS, modality_key
from clinimm.corpus import Corpus
from clinimm.modalities import get_modality
from clinimm.parallel import cores
from clinimm.progress import Progress
from clinimm.tables import Cohort, Fit
from clinimm.workspace import Workspace

_COMPONENTS = 40  # principal components of a dense summary
_METADATA = ("site", "device", "view", "photometric", "dicom_modality", "body_part", "rows", "columns")
_FEWEST_A_CODE = 5  # training subjects below which a code is no column of its own
_MOST_CODES = 300
_CELLS_A_THREAD = 500_000  # on fewer, threads wait for each other longer than they work


def control_predictions(
    workspace: Workspace, corpus: Corpus, cohort: Cohort, progress: Progress
) -> pd.DataFrame:
    """Held-out predictions of every control, in the columns of ``controls.parquet``."""
    names = [name for name in corpus.modalities if workspace.config.modality(name).enabled]
    once = {name: summary(corpus, name, workspace.config) for name in names if _once(name, workspace.config)}
    metadata = image_metadata(workspace)
    parts = []
    for fit in progress.track(cohort.fits, "controls"):
        training = [s for s in (*fit.training, *fit.tuning)]
        rest = [name for name in names if name not in once]
        summaries = once | {name: summary(corpus, name, workspace.config, training) for name in rest}
        summaries = {name: summaries[name] for name in names}
        controls = _fit_controls(summaries, metadata, training, fit.held_out, corpus, cohort)
        for control, probabilities in controls.items():
            parts.append(_rows(control, probabilities, fit, corpus, cohort))
    return pd.concat(parts, ignore_index=True)


def _once(modality: str, config: PipelineConfig) -> bool:
    """Whether one summary serves all folds: its tokens are slow to make and the same for all.

    What fine-tuned image encoders learn from subjects before training is a mean and a scale, which
    the control's own scaler undoes; words and principal components are learned a fold.
    """
    return config.modality(modality).encoder.fine_tune_blocks > 0


def summary(
    corpus: Corpus, modality: str, config: PipelineConfig, training: Sequence[str] | None = None
) -> pd.DataFrame:
    """One row a subject: the mean dense token, or the latest value of each recorded code.

    Args:
        corpus: the encoded tokens.
        modality: its name.
        config: of the run.
        training: whom the tokens' statistics are learned from; None is everybody.
    """
    subjects = sorted(corpus.present(modality))
    encoded = corpus.encoded(modality, subjects)
    if "code" in encoded.tokens and not encoded.values.reshape(len(encoded.values), -1).shape[1]:
        return _latest(encoded.tokens)
    return _mean_token(corpus, modality, subjects, config, subjects if training is None else training)


def _mean_token(
    corpus: Corpus, modality: str, subjects: list[str], config: PipelineConfig, training: Sequence[str]
) -> pd.DataFrame:
    """The mean of a subject's tokens as the untrained, pretrained encoder gives them."""
    table = get_modality(modality, config.plugins)
    statistics = table.fit(corpus.encoded(modality, training), config.modality(modality))
    torch.manual_seed(0)
    encoder = table.build_encoder(config.modality(modality), statistics).eval()
    rows = []
    with torch.inference_mode():
        for start in range(0, len(subjects), 32):
            batch = corpus.batch(subjects[start : start + 32], {modality: statistics})
            tokens = encoder.embed(batch[modality])
            share = tokens.mask[..., None].float()
            rows.append(((tokens.values * share).sum(1) / share.sum(1).clamp(min=1)).numpy())
    values = np.concatenate(rows)
    return pd.DataFrame(values, index=subjects, columns=[f"{modality}:{i}" for i in range(values.shape[1])])


def _latest(tokens: pd.DataFrame) -> pd.DataFrame:
    """The latest number of each code, and a 1 for each text that was seen; NaN is not recorded."""
    latest = tokens.sort_values("time_hours", kind="stable", ascending=False)
    numbers = latest[latest["numeric_value"].notna()]
    wide = numbers.groupby(["subject_id", "code"])["numeric_value"].last().unstack()
    texts = latest[latest["numeric_value"].isna()]
    label = texts["code"] + "//" + texts["text_value"].fillna("seen").astype(str).str.slice(0, 64)
    seen = pd.crosstab(texts["subject_id"], label).clip(upper=1).astype(float)
    return wide.join(seen, how="outer").sort_index()


def image_metadata(workspace: Workspace) -> pd.DataFrame:
    """One row a subject: its site, and how its most recent visible image or slide was made.

    How many images there are is no metadata: that is what ``missingness_only`` looks at. A site that
    is the same for everybody tells nothing and is left out.
    """
    cohort = pd.read_parquet(workspace.need("cohort", "cohort.parquet"))
    columns = ["subject_id", "time", "code", "modality", "category", "flags", "attributes"]
    events = pd.read_parquet(workspace.need("ingest", "events.parquet"))
    events = events[events["uri"].notna() & events["attributes"].notna()]
    spec = read_spec(workspace.stage("cohort"))
    parts = [visible(events, cohort, spec, str(name)) for name in events["modality"].unique()]
    site = _site(cohort)
    if not parts:
        return site
    seen = pd.concat(parts).sort_values(["subject_id", "time_hours"], kind="stable")
    seen = seen[[c for c in columns if c in seen]].drop_duplicates(["subject_id", "modality"])
    facts: dict[str, dict[str, str]] = {}
    for subject, modality, text in seen[["subject_id", "modality", "attributes"]].itertuples(index=False):
        row = facts.setdefault(str(subject), {})
        row |= {f"{modality}:{k}": str(v) for k, v in json.loads(text).items() if k in _METADATA}
    return site.join(pd.DataFrame.from_dict(facts, orient="index"), how="outer").sort_index()


def _site(cohort: pd.DataFrame) -> pd.DataFrame:
    """One row a subject of known site, as the cohort has it at the index time."""
    subjects = cohort.set_index("subject_id")
    if "site_id" not in subjects or subjects["site_id"].nunique(dropna=False) < 2:
        return pd.DataFrame(index=subjects.index[:0])
    return subjects[["site_id"]].dropna().astype(str)


def _fit_controls(
    summaries: dict[str, pd.DataFrame],
    metadata: pd.DataFrame,
    training: Sequence[str],
    held_out: Sequence[str],
    corpus: Corpus,
    cohort: Cohort,
) -> dict[str, np.ndarray]:
    """Control -> probabilities (held-out subject, class)."""
    targets = np.stack([cohort.targets[subject] for subject in training])
    everyone = [*training, *held_out]
    size = len(training)
    features = {name: _prepared(table, everyone, size) for name, table in summaries.items()}
    linear = {name: _probabilities("linear", x, size, targets, cohort) for name, x in features.items()}
    found = {f"linear:{name}": chances for name, chances in linear.items()}
    found["late_fusion"] = _late(linear, held_out, corpus)
    together = np.concatenate(list(features.values()), axis=1)
    found["gradient_boosting"] = _probabilities("trees", together, size, targets, cohort)
    recorded = np.concatenate([_recorded(table, everyone, size) for table in summaries.values()], axis=1)
    found["missingness_only"] = _probabilities("linear", recorded, size, targets, cohort)
    if len(metadata.columns):
        made = _one_hot(metadata, everyone, size)
        found["metadata_only"] = _probabilities("linear", made, size, targets, cohort)
    return found


def _prepared(table: pd.DataFrame, subjects: list[str], size: int) -> np.ndarray:
    """(subject, feature), NaN where a subject lacks it; wide tables as principal components."""
    wide = table.reindex(subjects)
    enough = wide.iloc[:size].notna().sum() >= _FEWEST_A_CODE
    wide = wide.loc[:, enough[enough].index[:_MOST_CODES] if len(enough) <= 384 else enough.index]
    values = wide.to_numpy(float)
    dense = values.shape[1] > _COMPONENTS and np.isnan(values).any(1).sum() == np.isnan(values).all(1).sum()
    known = ~np.isnan(values).any(axis=1)
    if not dense or known[:size].sum() <= 2:
        return values
    model = make_pipeline(
        StandardScaler(), PCA(min(_COMPONENTS, int(known[:size].sum()) - 1), random_state=0)
    )
    model.fit(values[:size][known[:size]])
    reduced = np.full((len(values), model[-1].n_components_), np.nan)
    reduced[known] = model.transform(values[known])
    return reduced


def _recorded(table: pd.DataFrame, subjects: list[str], size: int) -> np.ndarray:
    """1 where a fact is recorded: the modality as a whole, and each code where there are codes."""
    present = pd.Series(1.0, table.index).reindex(subjects).fillna(0.0).to_numpy()[:, None]
    if table.notna().all(axis=None):
        return present
    # A text's column is 1 where it was seen: which text it was is a finding, that there is one is not.
    code = ["//".join(str(column).split("//")[:2]) for column in table.columns]
    by_code = table.notna().T.groupby(code).any().T
    measured = by_code.reindex(subjects, fill_value=False).to_numpy(float)
    often = measured[:size].sum(0) >= _FEWEST_A_CODE
    return np.concatenate([present, measured[:, often][:, :_MOST_CODES]], axis=1)


def _one_hot(metadata: pd.DataFrame, subjects: list[str], size: int) -> np.ndarray:
    """Each value that at least two training subjects have, as a column."""
    table = pd.get_dummies(metadata.reindex(subjects).fillna("(missing)"), dtype=float)
    often = table.iloc[:size].sum() >= 2
    return table.loc[:, often].to_numpy(float)


def _late(linear: dict[str, np.ndarray], held_out: Sequence[str], corpus: Corpus) -> np.ndarray:
    """Mean over the modalities that a subject has; over all of them where it has none."""
    stacked = np.stack(list(linear.values()))  # (modality, subject, class)
    has = np.array([[subject in corpus.present(name) for subject in held_out] for name in linear], float)
    has[:, has.sum(0) == 0] = 1.0
    return (stacked * has[..., None]).sum(0) / has.sum(0)[:, None]


def _probabilities(
    kind: str, features: np.ndarray, size: int, targets: np.ndarray, cohort: Cohort
) -> np.ndarray:
    """Fit on the first ``size`` rows, predict the rest; (subject, class)."""
    if cohort.task.kind == "multiclass":
        known = ~np.isnan(targets).any(axis=1)
        return _one_target(kind, features, size, known, targets.argmax(1), len(cohort.task.classes))
    columns = []
    for index in range(targets.shape[1]):
        known = ~np.isnan(targets[:, index])
        label = np.nan_to_num(targets[:, index]).astype(int)
        columns.append(_one_target(kind, features, size, known, label, 2)[:, 1])
    return np.stack(columns, axis=1)


def _one_target(
    kind: str, features: np.ndarray, size: int, known: np.ndarray, label: np.ndarray, classes: int
) -> np.ndarray:
    rest = features[size:]
    x, y = features[:size][known], label[known]
    prior = np.bincount(y, minlength=classes) / max(1, len(y))
    if not x.shape[1] or len(np.unique(y)) < 2:
        return np.tile(prior, (len(rest), 1))
    model = _linear(np.bincount(y)) if kind == "linear" else _trees()
    with threadpool_limits(max(1, min(cores(), x.size // _CELLS_A_THREAD))):
        model.fit(x, y)
    chances = np.zeros((len(rest), classes))
    chances[:, model.classes_] = model.predict_proba(rest)
    return chances


def _linear(counts: np.ndarray) -> Any:
    folds = int(max(2, min(5, counts[counts > 0].min())))
    return make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
        StandardScaler(),
        LogisticRegressionCV(
            Cs=np.logspace(-4, 1, 6),
            cv=folds,
            scoring="neg_log_loss",
            max_iter=500,
            l1_ratios=(0.0,),
            use_legacy_attributes=False,
        ),
    )


def _trees() -> Any:
    return HistGradientBoostingClassifier(
        learning_rate=0.05, max_iter=150, max_leaf_nodes=8, min_samples_leaf=5, random_state=0
    )


def _rows(control: str, probabilities: np.ndarray, fit: Fit, corpus: Corpus, cohort: Cohort) -> pd.DataFrame:
    """As ``predict.prediction_rows``; a control has no digest of its own, its name says it."""
    subjects = list(fit.held_out)
    seen = [modality_key(corpus.modalities_of(subject)) for subject in subjects]
    parts = []
    for index, class_name in enumerate(cohort.task.classes):
        parts.append(
            pd.DataFrame(
                {
                    "subject_id": subjects,
                    "index_time": [cohort.index_time[s] for s in subjects],
                    "task": cohort.task.name,
                    "class_name": class_name,
                    "probability": probabilities[:, index].astype(float),
                    "label": [float(cohort.targets[s][index]) for s in subjects],
                    "modalities_present": seen,
                    "model_digest": "",
                    "split": "held_out",
                    "repeat": np.int32(fit.repeat),
                    "fold": np.int32(fit.fold),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)[list(PREDICTION_COLUMNS)].assign(control=control)
