"""The explain stage: attributions, modality contributions and their checks for held-out subjects."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from clinimm.audit.groups import levels_of
from clinimm.audit.policy import Policy, find_policy, load_policy
from clinimm.core.attribution import RANDOMISATION_COLUMNS
from clinimm.core.errors import ConfigError, DataError, ModelError
from clinimm.corpus import Corpus
from clinimm.explain.baselines import TRAINING
from clinimm.explain.edges import Edges
from clinimm.explain.findings import load_findings, localisation
from clinimm.explain.groups import Statistics
from clinimm.explain.methods import METHODS, get_method
from clinimm.explain.nearest import nearest_cases
from clinimm.explain.problem import Setting
from clinimm.explain.rejudge import judged_again, localisation_checks
from clinimm.explain.release import (
    check_figures,
    cohort_contributions,
    group_rows,
    mean_left,
    randomisation,
    randomisation_checks,
)
from clinimm.explain.select import explained_class, fit_folder, select_subjects
from clinimm.explain.subject import Explainer, Rows
from clinimm.explain.tables import Explanations, write_release
from clinimm.explain.training import with_training
from clinimm.model import FusionModel
from clinimm.progress import Progress
from clinimm.tables import load_cohort
from clinimm.workspace import Workspace

#: Explanations made on request lie here, below ``explain``; hidden, so no result of the stage.
REQUESTED = ".requested"


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
    checked = stage.checks_of_a_sample(targets, progress)
    groups = stage.groups(targets, checked, progress)
    findings = load_findings(settings.findings) if settings.findings else {}
    on_findings = localisation(found.attributions, findings)
    stage.judge_by(release, on_findings)
    found = replace(found, standings=stage.standings(found))
    found.write(folder)
    tables = {"randomisation": release, "groups": pd.DataFrame(groups), "localisation": on_findings}
    tables["nearest"] = nearest_cases(workspace, list(chosen["subject_id"]), settings.nearest_cases)
    write_release(tables, folder)
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
        located = known.with_name("localisation.parquet")
        stage.judge_by(pd.read_parquet(known), pd.read_parquet(located) if located.is_file() else None)
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

    def judge_by(self, release: pd.DataFrame, located: pd.DataFrame | None = None) -> None:
        """Hold the release's figures against every map that the same method makes.

        Args:
            release: ``randomisation.parquet``.
            located: ``localisation.parquet``, where findings are known.
        """
        checks = defaultdict(list, randomisation_checks(self._same(release)))
        for name, more in ({} if located is None else localisation_checks(self._same(located))).items():
            checks[name] += more
        self.explainer = replace(self.explainer, release=dict(checks))

    def standings(self, found: Explanations) -> pd.DataFrame:
        """What becomes of each map by all figures that are known now."""
        return judged_again(found, self.explainer.release, self.policy.explanations)

    def _same(self, table: pd.DataFrame) -> pd.DataFrame:
        return table[table["method"] == self.explainer.method]

    def explain(self, targets: pd.DataFrame, progress: Progress) -> Explanations:
        """Every table of some subjects."""
        rows: Rows = defaultdict(list)
        for fit, group in self._by_fit(targets):
            model, explainer = self._load(fit, group)
            for target in progress.track(list(group.itertuples()), "explain", len(group)):
                for name, found in explainer.explain(model, target).items():
                    rows[name] += found
        return Explanations.from_rows(rows)

    def randomisation(self, chosen: pd.DataFrame) -> pd.DataFrame:
        """The maps of the fit that explains most of the chosen subjects, as its weights are shuffled."""
        count, found = self.workspace.config.explain.randomised, []
        fits = sorted(self._by_fit(chosen), key=lambda item: -len(item[1]))
        if fits and count:
            model, explainer = self._load(*fits[0])
            usable = [
                bool(set(self.corpus.modalities_of(str(subject))) & set(model.modalities))
                for subject in fits[0][1]["subject_id"]
            ]
            rows = fits[0][1][usable].head(count)
            found = list(randomisation(explainer, model, rows)) if len(rows) else []
        return pd.DataFrame(found, columns=list(RANDOMISATION_COLUMNS))

    def checks_of_a_sample(self, targets: pd.DataFrame, progress: Progress) -> pd.DataFrame:
        """The cheap checks of ``explain.checked`` subjects drawn at random: those on pages are extremes."""
        config = self.workspace.config
        count = min(config.explain.checked, len(targets))
        drawn = targets.sort_values("subject_id").sample(count, random_state=config.seed)
        explainer, self.explainer = self.explainer, replace(self.explainer, full=False, edges=None)
        try:
            return self.explain(drawn, progress).checks
        finally:
            self.explainer = explainer

    def groups(self, targets: pd.DataFrame, checks: pd.DataFrame, progress: Progress) -> list[dict[str, Any]]:
        """Contributions of the cohort and checks of a sample of it, by group of people."""
        cohort = pd.read_parquet(self.workspace.need("cohort", "cohort.parquet"))
        subjects = [str(subject) for subject in targets["subject_id"]]
        attributes = pd.DataFrame(levels_of(cohort, subjects), index=pd.Index(subjects, name="subject_id"))
        rules = self.policy.statistics
        statistics = Statistics(rules.level, minimum=rules.minimum_cell, seed=self.workspace.config.seed)
        task = "" if targets.empty else str(targets["task"].iloc[0])
        figures = _merged(self._contributions(targets, progress))
        rows = list(group_rows(task, "contribution", figures, attributes, statistics))
        rows += group_rows(task, "check", check_figures(checks), attributes, statistics)
        return rows

    def _contributions(self, targets: pd.DataFrame, progress: Progress) -> Iterator[dict[str, pd.DataFrame]]:
        wanted = targets.sort_values("subject_id").head(self.workspace.config.explain.cohort)
        fits = self._by_fit(wanted)
        for fit, group in progress.track(fits, "contributions", len(fits)):
            yield cohort_contributions(self.explainer, self._load(fit, group)[0], group)

    def _by_fit(self, targets: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
        """Subjects by the folder of the fit that held them out."""
        fits = [str(fit_folder(self.workspace, target)) for target in targets.itertuples()]
        order = targets.assign(fit=pd.Series(fits, index=targets.index, dtype=str))
        return [(str(fit), group) for fit, group in order.groupby("fit", sort=True)]

    def _load(self, fit: str, targets: pd.DataFrame) -> tuple[FusionModel, Explainer]:
        """A fit, and the explainer with tokens of its training subjects where they are the baseline.

        Raises:
            ModelError: it is not the model that predicted all of these subjects: it may have trained on them.
        """
        if self._loaded is None or self._loaded[0] != fit:
            self._loaded = (fit, FusionModel.from_pretrained(Path(fit)))
        model = self._loaded[1]
        check_predicted_by(model, fit, targets)
        if self.explainer.setting.baseline != TRAINING:
            return model, self.explainer
        training = _training(self.workspace, Path(fit).name)
        setting = with_training(self.explainer, model, training, self.workspace.config.seed)
        return model, replace(self.explainer, setting=setting)


def check_predicted_by(model: FusionModel, fit: str, targets: pd.DataFrame) -> None:
    """Refuse to explain subjects by another model than the one that predicted them.

    Raises:
        ModelError: a prediction has another digest.
    """
    others = sorted(set(targets["model_digest"].astype(str)) - {model.digest})
    if others:
        raise ModelError(
            f"{fit} is model {model.digest[:12]}, but held-out predictions are of "
            f"{', '.join(one[:12] for one in others)}: the fit that predicted them is gone or changed, and "
            "this one may have trained on these subjects. Run `clinimm train` and `clinimm predict` again."
        )


def _edges(workspace: Workspace) -> Edges:
    from clinimm.core.pseudonym import load_pseudonymiser
    from clinimm.sources import build_sources
    from clinimm.sources.base import Opener

    key = load_pseudonymiser(workspace.config.ingest.pseudonym_key_file)
    return Edges(Opener(build_sources(workspace.config), key))


def _training(workspace: Workspace, fit: str) -> Sequence[str]:
    """The subjects that a fit was trained on; ``train/model`` is the only fit where there is one.

    Raises:
        ModelError: there is no such fit, and others are no stand-in: they trained on other subjects.
    """
    fits = {one.name: one for one in load_cohort(workspace, needs_labels=False).fits}
    if fit in fits:
        return fits[fit].training
    if len(fits) == 1:
        return next(iter(fits.values())).training
    raise ModelError(f"{fit} is none of the fits of this cohort ({', '.join(fits)}); fit the model again.")


def _merged(parts: Iterable[dict[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    found: dict[str, list[pd.DataFrame]] = defaultdict(list)
    for part in parts:
        for name, table in part.items():
            found[name].append(table)
    return {name: pd.concat(tables) for name, tables in sorted(found.items())}
