"""The explain stage: attributions, modality contributions and their checks for held-out subjects."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from clinimm.audit.groups import levels_of
from clinimm.audit.policy import Policy, find_policy, load_policy
from clinimm.core.attribution import RANDOMISATION_COLUMNS
from clinimm.core.errors import ConfigError, DataError
from clinimm.corpus import Corpus
from clinimm.explain.baselines import TRAINING
from clinimm.explain.edges import Edges
from clinimm.explain.groups import Statistics
from clinimm.explain.methods import METHODS, get_method
from clinimm.explain.problem import Setting
from clinimm.explain.release import (
    check_figures,
    cohort_contributions,
    group_rows,
    mean_left,
    randomisation,
    randomisation_checks,
)
from clinimm.explain.select import explained_class, select_subjects
from clinimm.explain.subject import Explainer, Rows
from clinimm.explain.tables import Explanations, write_release
from clinimm.model import FusionModel
from clinimm.progress import Progress
from clinimm.tables import load_cohort
from clinimm.workspace import Workspace

#: Explanations made on request lie here, below ``explain``; hidden, so no result of the stage.
REQUESTED = ".requested"
#: Training subjects, and tokens of each modality, from which the baseline ``training`` is drawn.
_BANK_SUBJECTS, _BANK_TOKENS = 64, 512


def run(workspace: Workspace, progress: Progress) -> dict[str, Any]:
    """Explain ``explain.subjects`` held-out subjects, check the release, and write the tables.

    Raises:
        ConfigError: the method is unknown, or its parts do not sum to the logit.
    """
    settings = workspace.config.explain
    if not get_method(settings.method).sums:
        known = ", ".join(name for name, method in METHODS.items() if method.sums)
        raise ConfigError(
            f"explain.method: the parts of {settings.method} do not sum to the logit; those of {known} do. "
            f"`clinimm explain RUN --subject S --method {settings.method}` shows them for one subject."
        )
    folder = workspace.stage("explain")
    shutil.rmtree(folder / REQUESTED, ignore_errors=True)
    targets = _targets(workspace)
    chosen = targets.set_index("subject_id").loc[select_subjects(targets, settings.subjects)].reset_index()
    stage = _Stage(workspace, settings.method)
    release = stage.randomisation(chosen)
    stage.judge_by(release)
    found = stage.explain(chosen, progress)
    groups = stage.groups(targets, found, progress)
    found.write(folder)
    write_release({"randomisation": release, "groups": pd.DataFrame(groups)}, folder)
    states = found.standings["state"].value_counts().to_dict()
    return {
        "explained": len(found.summary),
        "worst_relative_delta": worst_relative_delta(found.summary),
        "maps": {str(state): int(count) for state, count in sorted(states.items())},
        "correlation_after_randomisation": mean_left(release),
        **stage.missed_pictures,
    }


def explain_subjects(
    workspace: Workspace, subject_ids: Sequence[str], progress: Progress, method: str | None = None
) -> Explanations:
    """Explain some subjects on request; their pages find the tables under ``explain/.requested``.

    Each is explained by the fit that did not train on it. With another method than the run's, nothing
    is written: pages speak about one method.

    Raises:
        ConfigError: the method is unknown.
        DataError: a subject has no held-out prediction in this run.
        MissingStageError: the run has no predictions yet.
    """
    targets = _targets(workspace).set_index("subject_id")
    unknown = [subject for subject in subject_ids if subject not in targets.index]
    if unknown:
        raise DataError(
            f"subject {', '.join(unknown)} has no held-out prediction in {workspace.root}: only subjects "
            "that the model did not train on are explained (see predict/predictions.parquet)."
        )
    own = workspace.config.explain.method
    stage = _Stage(workspace, method or own)
    known = workspace.root / "explain" / "randomisation.parquet"
    if known.is_file():
        stage.judge_by(pd.read_parquet(known))
    found = stage.explain(targets.loc[list(subject_ids)].reset_index(), progress)
    if method in (None, own):
        for subject in subject_ids:
            found.of(subject).write(workspace.stage("explain") / REQUESTED / subject)
    return found


def worst_relative_delta(summary: pd.DataFrame) -> float | None:
    """Largest residual of any explanation, as a share of what was to be explained."""
    if summary.empty:
        return None
    change = (summary["logit"] - summary["baseline_logit"]).abs().clip(lower=1e-3)
    return float((summary["convergence_delta"].abs() / change).max())


def _targets(workspace: Workspace) -> pd.DataFrame:
    return explained_class(pd.read_parquet(workspace.need("predict", "predictions.parquet")))


class _Stage:
    """The parts of the stage, over one corpus, one method and one policy."""

    def __init__(self, workspace: Workspace, method: str) -> None:
        config = workspace.config.explain
        get_method(method)
        self.workspace = workspace
        self.policy: Policy = load_policy(find_policy(workspace.config.audit.policy))
        self.corpus = Corpus.load(workspace.root / "encode", workspace.config.plugins)
        # The last fit only: most runs have one, and all of a cross-validation would fill the memory.
        self._loaded: tuple[str, FusionModel] | None = None
        own = method == config.method
        setting = Setting(config.baseline if own else None, config.steps, workspace.config.seed)
        self.explainer = Explainer(
            self.corpus,
            workspace.config.plugins,
            method,
            setting,
            self.policy.explanations,
            config.checks == "full",
            _edges(workspace) if config.checks == "full" else None,
        )

    @property
    def missed_pictures(self) -> dict[str, int]:
        """How many pictures the edge detector could not read, where it was asked."""
        edges = self.explainer.edges
        return {} if edges is None else {"pictures_without_edges": len(edges.missed)}

    def judge_by(self, release: pd.DataFrame) -> None:
        """Hold the release's randomisation against every map that the same method makes."""
        same = release[release["method"] == self.explainer.method]
        self.explainer = replace(self.explainer, release=randomisation_checks(same))

    def explain(self, targets: pd.DataFrame, progress: Progress) -> Explanations:
        """Every table of some subjects."""
        rows: Rows = defaultdict(list)
        for fit, group in self._by_fit(targets):
            model, explainer = self._load(fit)
            for target in progress.track(list(group.itertuples()), "explain", len(group)):
                for name, found in explainer.explain(model, target).items():
                    rows[name] += found
        return Explanations.from_rows(rows)

    def randomisation(self, chosen: pd.DataFrame) -> pd.DataFrame:
        """The maps of the fit that explains most of the chosen subjects, as its weights are shuffled."""
        count, found = self.workspace.config.explain.randomised, []
        fits = sorted(self._by_fit(chosen), key=lambda item: -len(item[1]))
        if fits and count:
            model, explainer = self._load(fits[0][0])
            usable = [
                bool(set(self.corpus.modalities_of(str(subject))) & set(model.modalities))
                for subject in fits[0][1]["subject_id"]
            ]
            rows = fits[0][1][usable].head(count)
            found = list(randomisation(explainer, model, rows)) if len(rows) else []
        return pd.DataFrame(found, columns=list(RANDOMISATION_COLUMNS))

    def groups(self, targets: pd.DataFrame, found: Explanations, progress: Progress) -> list[dict[str, Any]]:
        """Contributions of the cohort and checks of the explained subjects, by group of people."""
        cohort = pd.read_parquet(self.workspace.need("cohort", "cohort.parquet"))
        subjects = [str(subject) for subject in targets["subject_id"]]
        attributes = pd.DataFrame(levels_of(cohort, subjects), index=pd.Index(subjects, name="subject_id"))
        rules = self.policy.statistics
        statistics = Statistics(rules.level, minimum=rules.minimum_cell, seed=self.workspace.config.seed)
        task = "" if targets.empty else str(targets["task"].iloc[0])
        figures = _merged(self._contributions(targets, progress))
        rows = list(group_rows(task, "contribution", figures, attributes, statistics))
        rows += group_rows(task, "check", check_figures(found.checks), attributes, statistics)
        return rows

    def _contributions(self, targets: pd.DataFrame, progress: Progress) -> Iterator[dict[str, pd.DataFrame]]:
        wanted = targets.sort_values("subject_id").head(self.workspace.config.explain.cohort)
        fits = self._by_fit(wanted)
        for fit, group in progress.track(fits, "contributions", len(fits)):
            yield cohort_contributions(self.explainer, self._load(fit)[0], group)

    def _by_fit(self, targets: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
        """Subjects by the folder of the fit that held them out."""
        fits = [str(_fit(self.workspace, target)) for target in targets.itertuples()]
        order = targets.assign(fit=pd.Series(fits, index=targets.index, dtype=str))
        return [(str(fit), group) for fit, group in order.groupby("fit", sort=True)]

    def _load(self, fit: str) -> tuple[FusionModel, Explainer]:
        """A fit, and the explainer with tokens of its training subjects where they are the baseline."""
        if self._loaded is None or self._loaded[0] != fit:
            self._loaded = (fit, FusionModel.from_pretrained(Path(fit)))
        model = self._loaded[1]
        if self.explainer.setting.baseline != TRAINING:
            return model, self.explainer
        setting = self.explainer.setting
        bank = _bank(self.workspace, self.corpus, model, Path(fit).name)
        return model, replace(self.explainer, setting=replace(setting, references=bank))


def _fit(workspace: Workspace, target: Any) -> Path:
    """The folder of the fit that held this subject out."""
    folder = workspace.root / "train" / "fits" / f"r{target.repeat}-f{target.fold}"
    return folder if folder.is_dir() else workspace.root / "train" / "model"


def _edges(workspace: Workspace) -> Edges:
    from clinimm.core.pseudonym import load_pseudonymiser
    from clinimm.sources import build_sources
    from clinimm.sources.base import Opener

    key = load_pseudonymiser(workspace.config.ingest.pseudonym_key_file)
    return Edges(Opener(build_sources(workspace.config), key))


def _bank(workspace: Workspace, corpus: Corpus, model: FusionModel, fit: str) -> dict[str, torch.Tensor]:
    """Embedded tokens of some training subjects of a fit, a modality."""
    fits = {one.name: one for one in load_cohort(workspace, needs_labels=False).fits}
    training = fits[fit if fit in fits else next(iter(fits))].training
    random = np.random.default_rng(workspace.config.seed)
    drawn = random.permutation(training)[:_BANK_SUBJECTS]
    with torch.no_grad():
        embedded = model.embed(corpus.batch([str(one) for one in drawn], model.statistics))
    found = {}
    for name, tokens in embedded.items():
        real = tokens.values[tokens.mask].float()
        found[name] = real[torch.from_numpy(random.permutation(len(real))[:_BANK_TOKENS])]
    return found


def _merged(parts: Iterable[dict[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    found: dict[str, list[pd.DataFrame]] = defaultdict(list)
    for part in parts:
        for name, table in part.items():
            found[name].append(table)
    return {name: pd.concat(tables) for name, tables in sorted(found.items())}
