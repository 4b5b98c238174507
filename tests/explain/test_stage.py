from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch

from clinimm.config import PipelineConfig
from clinimm.core.attribution import ATTRIBUTION_COLUMNS, EXPLANATION_SUMMARY_COLUMNS, Place
from clinimm.core.errors import ConfigError, DataError, ModelError
from clinimm.core.prediction import PREDICTION_COLUMNS
from clinimm.corpus import Corpus
from clinimm.evaluate.operating import OperatingPoint
from clinimm.explain.findings import FINDING_COLUMNS
from clinimm.explain.randomise import DEEPEST
from clinimm.explain.release import mean_left, randomisation_checks
from clinimm.explain.stage import REQUESTED, explain_subjects, run
from clinimm.explain.tables import RELEASE_TABLES, TABLES
from clinimm.model import FusionModel
from clinimm.progress import QUIET
from clinimm.tables import Fit
from clinimm.workspace import Workspace
from tests.toy import toy_modalities, toy_modality, toy_spec, toy_table

SUBJECTS = [f"s{place:02d}" for place in range(12)]


@pytest.fixture(autouse=True)
def _toy() -> Iterator[None]:
    find = lambda name, plugins=(): toy_modality(name)  # noqa: E731
    with toy_modalities(), mock.patch("clinimm.explain.subject.get_modality", find):
        yield


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Two fits of the real fused model; everybody has ``a``, every third also ``b``."""
    settings = {"name": "toy", "runs_dir": tmp_path, "explain": {"subjects": 5, "steps": 24}}
    found = Workspace(PipelineConfig.model_validate(settings))
    signal = np.linspace(-1, 1, len(SUBJECTS))
    for name, subjects in (("a", SUBJECTS), ("b", SUBJECTS[::3])):
        table = toy_table(subjects, signal[: len(subjects)], seed=len(name))
        folder = found.root / "encode" / name
        folder.mkdir(parents=True)
        table.tokens.to_parquet(folder / "tokens.parquet")
        np.save(folder / "values.npy", table.values)
    digests = []
    for fold in range(2):
        torch.manual_seed(fold)
        model = FusionModel(toy_spec(("a", "b")))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        digests.append(model.save_pretrained(found.root / "train" / "fits" / f"r0-f{fold}"))
    predictions = pd.DataFrame(
        {
            "subject_id": SUBJECTS,
            "index_time": pd.Timestamp("2024-01-01T00:00:00Z"),
            "task": "toy",
            "class_name": "yes",
            "probability": np.linspace(0.1, 0.9, len(SUBJECTS)),
            "label": [float(place % 2) for place in range(len(SUBJECTS))],
            "modalities_present": "a",
            "model_digest": [digests[place % 2] for place in range(len(SUBJECTS))],
            "split": "held_out",
            "repeat": 0,
            "fold": [place % 2 for place in range(len(SUBJECTS))],
        },
        columns=list(PREDICTION_COLUMNS),
    )
    predictions.to_parquet(found.stage("predict") / "predictions.parquet")
    cohort = {"subject_id": SUBJECTS, "label": 0.0, "sex": ["female", "male"] * 6, "age_years": 50.0}
    pd.DataFrame(cohort).to_parquet(found.stage("cohort") / "cohort.parquet")
    return found


def _tables(folder: Path) -> dict[str, pd.DataFrame]:
    names = ("attributions", "summary", "contributions")
    return {name: pd.read_parquet(folder / f"{name}.parquet") for name in names}


def test_parts_sum_to_the_logit_of_the_real_model(workspace: Workspace) -> None:
    notes = run(workspace, QUIET)
    tables = _tables(workspace.root / "explain")
    assert list(tables["attributions"].columns) == list(ATTRIBUTION_COLUMNS)
    assert list(tables["summary"].columns) == list(EXPLANATION_SUMMARY_COLUMNS)
    sums = tables["attributions"].groupby("subject_id")["score"].sum()
    for row in tables["summary"].itertuples():
        assert row.baseline_logit + sums[row.subject_id] == pytest.approx(row.logit, abs=0.01)
        assert row.attribution_sum == pytest.approx(sums[row.subject_id], abs=1e-9)
    assert notes["explained"] == 5
    assert notes["worst_relative_delta"] < 0.05


def test_each_subject_is_explained_by_the_fit_that_predicted_it(workspace: Workspace) -> None:
    run(workspace, QUIET)
    predicted = pd.read_parquet(workspace.root / "predict" / "predictions.parquet")
    by = predicted.set_index("subject_id")["model_digest"]
    for table in _tables(workspace.root / "explain").values():
        assert (table["model_digest"] == by.loc[table["subject_id"]].to_numpy()).all()


def test_only_present_modalities_have_rows_and_padding_has_none(workspace: Workspace) -> None:
    found = explain_subjects(workspace, ["s00", "s01"], QUIET)
    counts = found.attributions.groupby(["subject_id", "modality"]).size()
    assert counts.to_dict() == {("s00", "a"): 3, ("s00", "b"): 3, ("s01", "a"): 3}
    assert set(found.contributions.query("subject_id == 's01'")["modality"]) == {"a"}


def test_contributions_sum_to_the_logit_above_no_modality(workspace: Workspace) -> None:
    found = explain_subjects(workspace, ["s00", "s02"], QUIET)
    logit = found.summary.set_index("subject_id")["logit"]
    rest = logit - found.contributions.groupby("subject_id")["shapley"].sum()
    model = FusionModel.from_pretrained(workspace.root / "train" / "fits" / "r0-f0").eval()
    batch = Corpus.load(workspace.root / "encode", ()).batch(["s00"], model.statistics)
    with torch.no_grad():
        embedded = model.embed(batch)
        nothing = {name: t.with_mask(torch.zeros_like(t.mask)) for name, t in embedded.items()}
        empty = float(model.logits(nothing)[0, 0])
    assert rest["s00"] == pytest.approx(empty, abs=1e-5)
    assert rest["s02"] == pytest.approx(empty, abs=1e-5)
    assert found.summary["empty_logit"].to_numpy() == pytest.approx([empty, empty], abs=1e-6)


def test_a_fit_that_is_gone_or_changed_is_not_replaced_by_another(workspace: Workspace) -> None:
    fits = workspace.root / "train" / "fits"
    shutil.copytree(fits / "r0-f0", workspace.root / "train" / "model")
    shutil.rmtree(fits / "r0-f1")
    assert len(explain_subjects(workspace, ["s00"], QUIET).summary) == 1
    for explain in (lambda: explain_subjects(workspace, ["s01"], QUIET), lambda: run(workspace, QUIET)):
        with pytest.raises(ModelError, match="may have trained on these"):
            explain()
    shutil.copytree(fits / "r0-f0", fits / "r0-f1")
    with pytest.raises(ModelError, match="gone or changed"):
        explain_subjects(workspace, ["s01"], QUIET)


def test_the_model_itself_stands_in_where_it_is_what_predicted(workspace: Workspace) -> None:
    shutil.move(workspace.root / "train" / "fits" / "r0-f0", workspace.root / "train" / "model")
    assert len(explain_subjects(workspace, ["s00"], QUIET).summary) == 1


def test_training_tokens_are_of_the_fits_own_training_subjects_or_none(workspace: Workspace) -> None:
    shutil.move(workspace.root / "train" / "fits" / "r0-f0", workspace.root / "train" / "model")
    fits = [Fit(0, fold, tuple(SUBJECTS[fold::2]), (), tuple(SUBJECTS[1 - fold :: 2])) for fold in range(2)]
    many = mock.patch("clinimm.explain.training.load_cohort", return_value=mock.Mock(fits=tuple(fits)))
    with many, pytest.raises(ModelError, match="none of the fits"):
        explain_subjects(_with(workspace, baseline="training"), ["s00"], QUIET)
    with mock.patch("clinimm.explain.training.load_cohort", return_value=mock.Mock(fits=tuple(fits[:1]))):
        assert len(explain_subjects(_with(workspace, baseline="training"), ["s00"], QUIET).summary) == 1


def _spoil(workspace: Workspace, *subjects: str) -> None:
    """Numbers that are none among these subjects' tokens."""
    path = workspace.root / "encode" / "a" / "values.npy"
    values = np.load(path)
    for subject in subjects:
        values[3 * SUBJECTS.index(subject)] = np.nan
    np.save(path, values)


def test_one_bad_subject_is_listed_with_its_reason_and_stops_nobody(workspace: Workspace) -> None:
    settings = {"subjects": 12, "checked": 12, "nearest_cases": 0}
    run(_with(workspace, **settings), QUIET)
    folder = workspace.root / "explain"
    before = {name: table.query("subject_id != 's05'") for name, table in _tables(folder).items()}
    _spoil(workspace, "s05")
    notes = run(_with(workspace, **settings), QUIET)
    assert (notes["explained"], notes["refused"]) == (11, 1)
    for name, table in _tables(folder).items():
        pd.testing.assert_frame_equal(table, before[name].reset_index(drop=True))
    refused = pd.read_parquet(folder / "refused.parquet")
    assert set(refused["subject_id"]) == {"s05"}
    assert list(refused["part"]) == ["checks by group", "contributions by group", "explanation"]
    assert refused["reason"].str.contains("not a finite number").all()
    groups = pd.read_parquet(folder / "groups.parquet").query("level == 'overall'").set_index("figure")
    assert groups.loc["a", "n"] == 11 and np.isfinite(groups.loc["a", "mean"])
    assert groups.loc["completeness, all", "n"] == 11
    assert "s05" not in set(pd.read_parquet(folder / "randomisation.parquet")["subject_id"])


def test_of_several_on_request_the_others_are_explained_and_one_alone_is_an_error(
    workspace: Workspace,
) -> None:
    _spoil(workspace, "s03", "s05")
    found = explain_subjects(workspace, ["s03", "s04"], QUIET)
    assert set(found.summary["subject_id"]) == {"s04"} and list(found.refused["subject_id"]) == ["s03"]
    folder = workspace.root / "explain" / REQUESTED
    assert [path.name for path in folder.iterdir()] == ["s04"]
    for subjects in (["s03"], ["s03", "s05"]):
        with pytest.raises(ModelError, match=r"s03 cannot be explained: .* not a finite number"):
            explain_subjects(workspace, subjects, QUIET)


def test_where_nobody_can_be_explained_the_stage_fails(workspace: Workspace) -> None:
    _spoil(workspace, *SUBJECTS)
    with pytest.raises(ModelError, match="nobody could be explained"):
        run(workspace, QUIET)


def test_a_bad_training_subject_spoils_nobodys_baseline(workspace: Workspace) -> None:
    fits = [Fit(0, fold, tuple(SUBJECTS[fold::2]), (), tuple(SUBJECTS[1 - fold :: 2])) for fold in range(2)]
    _spoil(workspace, "s02")
    cohort = mock.Mock(fits=tuple(fits))
    with mock.patch("clinimm.explain.training.load_cohort", return_value=cohort):
        found = explain_subjects(_with(workspace, baseline="training"), ["s00"], QUIET)
    assert np.isfinite(found.attributions["score"]).all() and found.refused.empty


def test_the_surest_errors_are_those_of_the_operating_point(workspace: Workspace) -> None:
    """Labels alternate: s01 is a miss at the fit's 0.3, s10 the surest false alarm at 0.2."""
    point = OperatingPoint(0.2, "sensitivity", fits={(0, 1): 0.3})
    metrics = {"classes": [{"class_name": "yes", "operating_point": point.as_json()}]}
    (workspace.stage("evaluate") / "metrics.json").write_text(json.dumps(metrics))
    run(_with(workspace, subjects=4), QUIET)
    explained = pd.read_parquet(workspace.root / "explain" / "summary.parquet")["subject_id"]
    assert set(explained) == {"s11", "s00", "s10", "s01"}


def test_two_runs_write_the_same_bytes(workspace: Workspace) -> None:
    folder = workspace.root / "explain"
    run(workspace, QUIET)
    first = {path.name: path.read_bytes() for path in folder.glob("*.parquet")}
    run(workspace, QUIET)
    assert len(first) == len(TABLES) + len(RELEASE_TABLES)
    assert first == {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def test_an_explanation_on_request_lies_apart_and_goes_with_the_next_run(workspace: Workspace) -> None:
    found = explain_subjects(workspace, ["s03"], QUIET)
    folder = workspace.root / "explain" / REQUESTED / "s03"
    assert len(_tables(folder)["attributions"]) == len(found.attributions) > 0
    run(workspace, QUIET)
    assert not folder.exists()


def test_a_subject_that_was_never_held_out_is_refused(workspace: Workspace) -> None:
    with pytest.raises(DataError, match="no held-out prediction"):
        explain_subjects(workspace, ["nobody"], QUIET)


def _with(workspace: Workspace, **explain: object) -> Workspace:
    config = workspace.config
    return Workspace(config.model_copy(update={"explain": config.explain.model_copy(update=explain)}))


def test_every_table_has_its_columns_and_speaks_of_the_explained(workspace: Workspace) -> None:
    run(workspace, QUIET)
    folder = workspace.root / "explain"
    explained = set(pd.read_parquet(folder / "summary.parquet")["subject_id"])
    for name, (columns, _) in TABLES.items():
        table = pd.read_parquet(folder / f"{name}.parquet")
        assert list(table.columns) == list(columns)
        assert set(table["subject_id"]) <= explained
    for name, columns in RELEASE_TABLES.items():
        assert list(pd.read_parquet(folder / f"{name}.parquet").columns) == list(columns)


def _on_a_film(row: Mapping[str, object], cell: int) -> Place:
    left = 10.0 * float(str(row["time_hours"]))
    return Place("pixels", str(row["subject_id"]), (left, 0.0, left + 10, 10.0), "", 0.0)


def test_known_findings_are_compared_with_the_maps_and_are_no_input(
    workspace: Workspace, tmp_path: Path
) -> None:
    filmed = lambda name, plugins=(): replace(toy_modality(name), locate=_on_a_film)  # noqa: E731
    with mock.patch("clinimm.explain.subject.get_modality", filmed):
        run(workspace, QUIET)
        folder = workspace.root / "explain"
        before = (folder / "attributions.parquet").read_bytes()
        assert len(pd.read_parquet(folder / "localisation.parquet")) == 0
        cells = pd.read_parquet(folder / "attributions.parquet").query("modality == 'a'")
        strongest = cells.assign(size=cells["score"].abs()).sort_values("size").groupby("digest").tail(1)
        boxes = pd.DataFrame(strongest["box"].map(json.loads).tolist(), columns=list(FINDING_COLUMNS[1:]))
        boxes.assign(digest=strongest["digest"].to_numpy()).to_csv(tmp_path / "f.csv", index=False)
        run(_with(workspace, findings=tmp_path / "f.csv"), QUIET)
    found = pd.read_parquet(folder / "localisation.parquet").query("modality == 'a'")
    assert sorted(found["digest"]) == sorted(set(cells["digest"]))
    assert found["hit"].all()
    assert (folder / "attributions.parquet").read_bytes() == before


def test_every_map_has_a_standing_that_its_checks_explain(workspace: Workspace) -> None:
    notes = run(workspace, QUIET)
    folder = workspace.root / "explain"
    standings, checks = (pd.read_parquet(folder / f"{name}.parquet") for name in ("standings", "checks"))
    maps = pd.read_parquet(folder / "attributions.parquet")[["subject_id", "modality"]].drop_duplicates()
    assert len(standings) == len(maps) + notes["explained"], "and one for the budget as a whole"
    assert sum(notes["maps"].values()) == len(standings)
    for row in standings[standings["state"] == "struck_out"].itertuples():
        for name in json.loads(row.failed):
            own = checks.query(
                "subject_id == @row.subject_id and modality == @row.modality and check == @name"
            )
            assert len(own) == 1
            worst = {"completeness": own["judged"] > 0.05, "random_orders": own["judged"] < 0.95}
            assert worst.get(name, own["judged"] < 0).all()


def test_what_the_page_reads_and_the_checks_table_agree(workspace: Workspace) -> None:
    found = explain_subjects(workspace, ["s00"], QUIET)
    row = found.checks.query("check == 'deletion' and modality == 'all'").iloc[0]
    assert found.summary["deletion_auc"].iloc[0] == row["value"]
    assert found.summary["deletion_auc_random"].iloc[0] == row["against"]
    assert row["judged"] == pytest.approx(row["against"] - row["value"])


def test_a_failed_randomisation_hides_every_map_of_that_modality(workspace: Workspace, monkeypatch) -> None:
    method = workspace.config.explain.method
    row = {"method": method, "depth": DEEPEST, "tokens": 9, "modality": "a"}
    row |= {"correlation_of_sizes": 0.2, "chance": 0.0}
    stuck = pd.DataFrame([row | {"seed": seed, "correlation": 0.9} for seed in range(3)])
    folder = workspace.stage("explain")
    stuck.to_parquet(folder / "randomisation.parquet")
    found = explain_subjects(workspace, ["s00"], QUIET).standings.set_index("modality")
    assert found.loc["a", "state"] == "hidden"
    assert "all weights are random is 0.90" in found.loc["a", "sentence"]
    assert found.loc["b", "state"] != "hidden"


def test_a_pair_of_modalities_has_one_interaction(workspace: Workspace) -> None:
    found = explain_subjects(workspace, ["s00", "s01"], QUIET).interactions
    assert found[["subject_id", "modality", "other"]].to_numpy().tolist() == [["s00", "a", "b"]]


def test_contributions_of_the_cohort_stand_by_group_and_small_groups_are_silent(workspace: Workspace) -> None:
    run(workspace, QUIET)
    groups = pd.read_parquet(workspace.root / "explain" / "groups.parquet")
    about = groups[groups["about"] == "contribution"].set_index(["attribute", "level", "figure"])
    assert about.loc[("overall", "overall", "|a|"), "n"] == len(SUBJECTS)
    assert about.loc[("overall", "overall", "|a|"), "mean"] >= abs(
        about.loc[("overall", "overall", "a"), "mean"]
    )
    assert pd.isna(about.loc[("sex", "female", "a"), "mean"]), "six are fewer than ten"
    assert set(groups["about"]) == {"contribution", "check"}


def test_checks_by_group_are_of_a_random_sample_and_not_of_the_extremes_on_pages(
    workspace: Workspace,
) -> None:
    for count, known in ((11, 11), (0, 0)):
        run(_with(workspace, checked=count, subjects=2, cohort=0), QUIET)
        groups = pd.read_parquet(workspace.root / "explain" / "groups.parquet")
        checks = groups[(groups["about"] == "check") & (groups["level"] == "overall")].set_index("figure")
        assert len(pd.read_parquet(workspace.root / "explain" / "summary.parquet")) == 2
        assert (checks.loc["completeness, all", "n"] if len(checks) else 0) == known


def test_parts_that_do_not_sum_up_cannot_be_the_runs_own(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match="gradient_shap"):
        run(_with(workspace, method="occlusion"), QUIET)


def test_another_method_on_request_is_shown_and_not_written(workspace: Workspace) -> None:
    found = explain_subjects(workspace, ["s03"], QUIET, "attention_rollout")
    assert set(found.attributions["method"]) == {"attention_rollout"}
    assert found.attributions["score"].sum() == pytest.approx(1)
    assert np.isnan(found.summary["convergence_delta"]).all()
    assert "completeness" not in set(found.checks["check"])
    assert not (workspace.root / "explain" / REQUESTED).exists()


def test_full_checks_say_whether_the_map_would_be_the_same_again(workspace: Workspace) -> None:
    with mock.patch("clinimm.explain.stage._edges", return_value=None):
        found = explain_subjects(_with(workspace, checks="full", method="gradient_shap"), ["s00"], QUIET)
    assert {"sensitivity", "repeatability"} <= set(found.checks["check"])


def test_tokens_of_training_subjects_can_be_the_baseline(workspace: Workspace) -> None:
    fits = [Fit(0, fold, tuple(SUBJECTS[fold::2]), (), tuple(SUBJECTS[1 - fold :: 2])) for fold in range(2)]
    cohort = mock.Mock(fits=tuple(fits))
    with mock.patch("clinimm.explain.training.load_cohort", return_value=cohort):
        found = explain_subjects(
            _with(workspace, baseline="training", method="gradient_shap"), ["s00"], QUIET
        )
    assert set(found.attributions["baseline"]) == {"tokens of training subjects, drawn at random"}


def test_what_is_left_is_counted_from_chance_so_that_maps_of_a_few_tokens_are_judged_too() -> None:
    row = {"method": "m", "depth": DEEPEST, "correlation_of_sizes": 0.1}
    rows = [
        row | {"seed": seed, "modality": name, "tokens": count, "correlation": left, "chance": chance}
        for seed in range(6)
        for name, count, left, chance in (
            ("by chance", 4, -0.6, 0.6),
            ("kept", 4, 1.0, 0.6),
            ("film", 49, (-1) ** seed * 0.6, 0.1),
            ("no order", 3, 1.0, 0.7),
        )
    ]
    found = {name: checks[0].value for name, checks in randomisation_checks(pd.DataFrame(rows)).items()}
    assert found == pytest.approx({"by chance": 0, "kept": 1, "film": 0.5 / 0.9}, abs=1e-9)
    assert mean_left(pd.DataFrame(rows).assign(modality="all")) > 0.6


def test_figures_of_an_older_release_without_chance_are_not_judged() -> None:
    row = {"method": "m", "depth": DEEPEST, "correlation": 0.9, "correlation_of_sizes": 0.9, "tokens": 40}
    rows = [row | {"seed": seed, "modality": "film"} for seed in range(6)]
    assert randomisation_checks(pd.DataFrame(rows)) == {}
