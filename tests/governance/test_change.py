"""The envelope: what is listed is inside, everything else is outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinimm.cli import app as application
from clinimm.config import PipelineConfig
from clinimm.core.record import RunRecord
from clinimm.governance.change import ABSENT, ChangeControl, changes, flat, read_change_control
from clinimm.governance.known_keys import known_keys

PLAN = Path(__file__).parents[2] / "governance" / "change-control.yaml"


READ, _ = read_change_control(PLAN)


def run_of(tmp_path, name, *, epochs=10, root="/data/a", question="Is it so?", policy="p", more="", audit=0):
    """A run's folder, as far as the comparison reads it."""
    folder = tmp_path / name
    (folder / "audit").mkdir(parents=True)
    text = f"name: {name}\nsources: [{{kind: local, root: {root}}}]\ntrain: {{epochs: {epochs}}}\n{more}"
    (folder / "pipeline.yaml").write_text(text)
    (folder / "cohort.yaml").write_text(f"name: c\nquestion: {question}\n")
    content = {"exit_status": audit, "sentence": "All hold.", "policy": {"sha256": policy}}
    if audit is not None:
        (folder / "audit" / "audit.json").write_text(json.dumps(content))
    return folder


def compare(old, new):
    return application.run(["governance", "diff", str(old), str(new), "--governance", str(PLAN.parent)])


def test_newer_data_and_longer_training_are_inside(tmp_path, capsys):
    old = run_of(tmp_path, "old")
    assert compare(old, run_of(tmp_path, "new", epochs=20, root="/data/b")) == 0
    said = capsys.readouterr().out
    assert "inside   train.epochs: 10 -> 20 (training-length)" in said
    assert "inside   sources.0.root: /data/a -> /data/b (newer-data)" in said
    assert "Inside the envelope: 3 changes. Its own audit lets it pass; a reviewer signs: All hold." in said


def test_a_change_that_nobody_allowed_is_outside(tmp_path, capsys):
    old = run_of(tmp_path, "old")
    assert compare(old, run_of(tmp_path, "new", more="model: {width: 128}\n")) == 1
    assert (
        "OUTSIDE  model.width: 64 -> 128 (no modification of the plan allows it)" in capsys.readouterr().out
    )


def test_a_value_past_its_limit_is_outside(tmp_path, capsys):
    assert compare(run_of(tmp_path, "old"), run_of(tmp_path, "new", epochs=201)) == 1
    assert "training-length allows it, but 201 is above 200" in capsys.readouterr().out


@pytest.mark.parametrize("changed", [{"question": "Is it otherwise?"}, {"policy": "q"}])
def test_another_question_or_policy_is_outside(tmp_path, changed):
    assert compare(run_of(tmp_path, "old"), run_of(tmp_path, "new", **changed)) == 1


def test_another_code_version_is_outside(tmp_path, capsys):
    old, new = run_of(tmp_path, "old"), run_of(tmp_path, "new")
    for folder, code in ((old, "1.0+a"), (new, "1.0+b")):
        (folder / "train").mkdir()
        record = {field: {} for field in RunRecord.__dataclass_fields__} | {
            "stage": "train",
            "code_version": code,
        }
        (folder / "train" / "record.json").write_text(json.dumps(record))
    assert compare(old, new) == 1
    assert "OUTSIDE  code: 1.0+a -> 1.0+b" in capsys.readouterr().out


@pytest.mark.parametrize(("audit", "said"), [(1, "blocks it"), (2, "blocks it"), (None, "has no audit")])
def test_inside_is_not_accepted_without_an_audit_that_passes(tmp_path, capsys, audit, said):
    new = run_of(tmp_path, "new", audit=audit)
    old = run_of(tmp_path, "old", audit=0 if audit is not None else None)
    assert compare(old, new) == 2
    assert said in capsys.readouterr().out


def test_what_is_no_run_is_bad_input(tmp_path, capsys):
    assert compare(run_of(tmp_path, "old"), tmp_path / "nothing") == 3
    assert "neither a pipeline file nor a run" in capsys.readouterr().err


def test_a_setting_that_a_run_does_not_have_differs():
    (found,) = changes({}, {"sources.1.root": "/b"}, READ)
    assert (found.before, found.after, found.modification) == (ABSENT, "/b", "newer-data")


@given(st.dictionaries(st.text("abc.", min_size=1), st.integers(), max_size=4))
def test_without_a_difference_there_is_no_change(values):
    assert changes(values, dict(values), READ) == []


@given(st.sampled_from(["model.width", "seed2", "cohort_file.label.code", "audit.policy", "policy", "code"]))
def test_nothing_that_is_not_listed_is_ever_inside(key):
    (found,) = changes({key: 1}, {key: 2}, READ)
    assert not found.inside


def test_flat_keeps_every_leaf():
    assert flat({"a": {"b": [1, {"c": None}]}, "d": {}}) == {"a.b.0": 1, "a.b.1.c": None, "d": {}}


@pytest.mark.parametrize(
    ("allowed", "value", "said"),
    [
        ({"at_most": 3}, 4, "above 3"),
        ({"at_least": 3}, 2, "below 3"),
        ({"at_most": 3}, "many", "not a number"),
        ({"at_most": 3}, True, "not a number"),
        ({"one_of": ["a", "b"]}, "c", "not one of a, b"),
        ({"at_most": 3}, 3, ""),
        ({}, "anything", ""),
    ],
)
def test_limits(allowed, value, said):
    plan = ChangeControl.model_validate(
        {
            "schema": "clinimm.change-control/1",
            "modifications": [
                {
                    "id": "one",
                    "what": "A change of this.",
                    "why": "It is due.",
                    "owner": "x",
                    "allows": [{"key": "k", **allowed}],
                    "protocol": ["p"],
                    "impact": "None at all.",
                }
            ],
        }
    )
    (found,) = changes({"k": None}, {"k": value}, plan)
    assert found.inside == (not said)
    assert said in found.reason


def test_only_settings_that_exist_can_be_allowed():
    known = known_keys(PipelineConfig)
    for key in ("train.epochs", "sources.*.root", "modalities.radiology.max_tokens", "train.*"):
        assert known.matches(key), key
    for key in ("train.epoch", "sources.*.rot", "modalities.radiology.max_token", "epochs"):
        assert not known.matches(key), key
    assert known.matches("modalities.radiology.encoder.options.augment")
