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
from clinimm.core.errors import ConfigError, DataError, InputRejected, ModelError
from clinimm.corpus import Corpus
from clinimm.explain.baselines import TRAINING
from clinimm.explain.edges import Edges
from clinimm.explain.findings import load_findings, localisation
from clinimm.explain.fits import by_fit, check_predicted_by, load_fit
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
    without_figures,
)
from clinimm.explain.select import explained_class, operating_points, select_subjects
from clinimm.explain.subject import Explainer, Rows, refusal
from clinimm.explain.tables import Explanations, write_release
from clinimm.explain.training import training_subjects, with_training
from clinimm.model import FusionModel
from clinimm.progress import Progress
from clinimm.workspace import Workspace

#: Explanations made on request lie here, below ``explain``; hidden, so no result of the stage.
REQUESTED = ".requested"
#: Parts of the stage that may have to go without a subject, as ``refused.parquet`` names them.
EXPLANATION, CHECKS, CONTRIBUTIONS = "explanation", "checks by group", "contributions by group"


def run(workspace: Workspace, progress: Progress) -> dict[str, Any]:
    """Explain ``explain.subjects`` held-out subjects, check the release, and write the tables.

    A subject that cannot be explained is listed in ``refused.parquet``, and the others go on.

    Raises:
        ConfigError: the method is unknown, or its parts do not sum to the logit.
        ModelError: a fit is not the one that predicted; or nobody could be explained.
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
    wanted = select_subjects(targets, settings.subjects, operating_points(workspace, targets))
    chosen = targets.set_index("subject_id").loc[wanted].reset_index()
    stage = _Stage(workspace, settings.method)
    found = stage.explain(chosen, progress)
    _check_somebody(found)
    chosen = chosen[~chosen["subject_id"].isin(found.refused["subject_id"])]
    release = stage.randomisation(chosen)
    sample = stage.checks_of_a_sample(targets, progress)
    groups, without = stage.groups(targets, sample.checks, progress)
    findings = load_findings(settings.findings) if settings.findings else {}
    on_findings = localisation(found.attributions, findings)
    stage.judge_by(release, on_findings)
    refused = pd.concat([found.refused, sample.refused, without], ignore_index=True)
    refused = refused.sort_values(["subject_id", "part"], kind="stable", ignore_index=True)
    found = replace(found, standings=stage.standings(found), refused=refused)
    found.write(folder)
    tables = {"randomisation": release, "groups": pd.DataFrame(groups), "localisation": on_findings}
    tables["nearest"] = nearest_cases(workspace, list(chosen["subject_id"]), settings.nearest_cases)
    write_release(tables, folder)
    states = found.standings["state"].value_counts().to_dict()
    return {
        "explained": len(found.summary),
        "refused": refused["subject_id"].nunique(),
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
    is written: pages speak about one method. Who cannot be explained is in the answer's ``refused``.

    Raises:
        ConfigError: the method is unknown.
        DataError: a subject has no held-out prediction in this run.
        MissingStageError: the run has no predictions yet.
        ModelError: a fit is not the one that predicted; or none of these subjects could be explained.
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
    _check_somebody(found)
    if method in (None, own):
        for subject in [one for one in subject_ids if one not in set(found.refused["subject_id"])]:
            found.of(subject).write(workspace.stage("explain") / REQUESTED / subject)
    return found


def worst_relative_delta(summary: pd.DataFrame) -> float | None:
    """Size of the largest residual of any explanation, as a share of what was to be explained."""
    if summary.empty:
        return None
    change = (summary["logit"] - summary["baseline_logit"]).abs().clip(lower=1e-3)
    return float((summary["convergence_delta"].abs() / change).max())


def _check_somebody(found: Explanations) -> None:
    """One bad subject is listed; where all are, something else is wrong."""
    if len(found.refused) and found.summary.empty:
        first, more = found.refused.iloc[0], len(found.refused) - 1
        others = f" Nor can the {more} others: nobody could be explained." if more else ""
        raise ModelError(f"{first['subject_id']} cannot be explained: {first['reason']}{others}")


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
        self._loaded: tuple[Path, FusionModel, Setting] | None = None
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

    def explain(self, targets: pd.DataFrame, progress: Progress, part: str = EXPLANATION) -> Explanations:
        """Every table of some subjects; who cannot be explained is listed, and the others go on (law 7)."""
        rows: Rows = defaultdict(list)
        for fit, group in by_fit(self.workspace, targets):
            model, explainer = self._load(fit, group)
            for target in progress.track(list(group.itertuples()), "explain", len(group)):
                try:
                    found = explainer.explain(model, target)
                except (DataError, InputRejected, ModelError) as error:
                    found = {"refused": [refusal(target, part, error)]}
                for name, more in found.items():
                    rows[name] += more
        return Explanations.from_rows(rows)

    def randomisation(self, chosen: pd.DataFrame) -> pd.DataFrame:
        """The maps of the fit that explains most of the chosen subjects, as its weights are shuffled."""
        count, found = self.workspace.config.explain.randomised, []
        fits = sorted(by_fit(self.workspace, chosen), key=lambda item: -len(item[1]))
        if fits and count:
            model, explainer = self._load(*fits[0])
            usable = [
                bool(set(self.corpus.modalities_of(str(subject))) & set(model.modalities))
                for subject in fits[0][1]["subject_id"]
            ]
            rows = fits[0][1][usable].head(count)
            found = list(randomisation(explainer, model, rows)) if len(rows) else []
        return pd.DataFrame(found, columns=list(RANDOMISATION_COLUMNS))

    def checks_of_a_sample(self, targets: pd.DataFrame, progress: Progress) -> Explanations:
        """The cheap checks of ``explain.checked`` subjects drawn at random: those on pages are extremes."""
        config = self.workspace.config
        count = min(config.explain.checked, len(targets))
        drawn = targets.sort_values("subject_id").sample(count, random_state=config.seed)
        explainer, self.explainer = self.explainer, replace(self.explainer, full=False, edges=None)
        try:
            return self.explain(drawn, progress, CHECKS)
        finally:
            self.explainer = explainer

    def groups(
        self, targets: pd.DataFrame, checks: pd.DataFrame, progress: Progress
    ) -> tuple[list[dict[str, Any]], pd.DataFrame]:
        """Contributions of the cohort and checks of a sample of it, by group of people; and who has none."""
        cohort = pd.read_parquet(self.workspace.need("cohort", "cohort.parquet"))
        subjects = [str(subject) for subject in targets["subject_id"]]
        attributes = pd.DataFrame(levels_of(cohort, subjects), index=pd.Index(subjects, name="subject_id"))
        rules = self.policy.statistics
        statistics = Statistics(rules.level, minimum=rules.minimum_cell, seed=self.workspace.config.seed)
        task = "" if targets.empty else str(targets["task"].iloc[0])
        figures = _merged(self._contributions(targets, progress))
        rows = list(group_rows(task, "contribution", figures, attributes, statistics))
        rows += group_rows(task, "check", check_figures(checks), attributes, statistics)
        return rows, without_figures(targets, figures, CONTRIBUTIONS)

    def _contributions(self, targets: pd.DataFrame, progress: Progress) -> Iterator[dict[str, pd.DataFrame]]:
        wanted = targets.sort_values("subject_id").head(self.workspace.config.explain.cohort)
        fits = by_fit(self.workspace, wanted)
        for fit, group in progress.track(fits, "contributions", len(fits)):
            yield cohort_contributions(self.explainer, self._load(fit, group)[0], group)

    def _load(self, fit: Path, targets: pd.DataFrame) -> tuple[FusionModel, Explainer]:
        """A fit, and the explainer with tokens of its training subjects where they are the baseline.

        Raises:
            ModelError: it is not the model that predicted all of these subjects: it may have trained on them.
        """
        if self._loaded is None or self._loaded[0] != fit:
            model = load_fit(fit, targets)
            self._loaded = (fit, model, self._setting(fit, model))
        _, model, setting = self._loaded
        check_predicted_by(model, fit, targets)
        return model, replace(self.explainer, setting=setting)

    def _setting(self, fit: Path, model: FusionModel) -> Setting:
        if self.explainer.setting.baseline != TRAINING:
            return self.explainer.setting
        subjects = training_subjects(self.workspace, fit.name)
        return with_training(self.explainer, model, subjects, self.workspace.config.seed)


def _edges(workspace: Workspace) -> Edges:
    from clinimm.core.pseudonym import load_pseudonymiser
    from clinimm.sources import build_sources
    from clinimm.sources.base import Opener

    key = load_pseudonymiser(workspace.config.ingest.pseudonym_key_file)
    return Edges(Opener(build_sources(workspace.config), key))


def _merged(parts: Iterable[dict[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    found: dict[str, list[pd.DataFrame]] = defaultdict(list)
    for part in parts:
        for name, table in part.items():
            found[name].append(table)
    return {name: pd.concat(tables) for name, tables in sorted(found.items())}
