from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from clinimm.cohort.spec import CohortSpec, load_cohort
from clinimm.cohort.split_spec import TimeSplit
from clinimm.core.errors import ConfigError

FILES = sorted((Path(__file__).parents[2] / "pipelines" / "cohorts").glob("*.yaml"))
GOOD = """\
name: severe-covid
question: Will it be severe?
index: {modality: radiology, which: first}
inclusion:
  - {name: adults, age_years: {min: 18}}
  - {name: had a fever, code: "LOINC//8310-5", value: {min: 38, unit: Cel}, window: [-30 d, 0 d]}
  - {name: women and men, attribute: {sex: [female, male]}}
label:
  task: severe
  code: outcome//severe
  value: true
  window: [0 d, 365 d]
inputs:
  ehr:
    look_back: 365 d
    include: ["LOINC//*"]
  radiology:
split:
  kind: subject
  fractions:
    train: 0.7
    tuning: 0.1
    held_out: 0.2
"""


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], CohortSpec]:
    def write(text: str) -> CohortSpec:
        path = tmp_path / "cohort.yaml"
        path.write_text(text, encoding="utf-8")
        return load_cohort(path)

    return write


def test_reads_what_a_clinician_wrote(load: Callable[[str], CohortSpec]) -> None:
    spec = load(GOOD)
    fever = spec.inclusion[1]
    assert fever.window == (timedelta(days=-30), timedelta())
    assert fever.value is not None and fever.value.min == 38
    assert spec.label.value is not None and spec.label.value.equals == 1
    assert spec.inputs["radiology"].look_back is None
    assert list(spec.label.resolved()) == ["severe"]


def test_a_day_is_written_as_in_a_calendar(load: Callable[[str], CohortSpec]) -> None:
    head = GOOD[: GOOD.index("split:")]
    spec = load(head + "split: {kind: time, held_out_from: 2024-01-31}\n")
    assert isinstance(spec.split, TimeSplit)
    assert spec.split.held_out_from == date(2024, 1, 31)


def test_json_reads_back(load: Callable[[str], CohortSpec]) -> None:
    spec = load(GOOD)
    assert CohortSpec.model_validate_json(spec.model_dump_json(exclude_unset=True)) == spec


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_the_shipped_files_are_valid_short_and_never_see_an_outcome(path: Path) -> None:
    spec = load_cohort(path)
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 41
    assert not any(code.startswith("outcome") for rule in spec.inputs.values() for code in rule.include)


def test_there_are_shipped_files() -> None:
    assert {path.stem for path in FILES} >= {"demo", "covid_cxr", "ham10000"}


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("which: first", "which: middle", 3, "first"),
        ("index: {modality: radiology, which: first}", "index: {which: first}", 3, "name the index event"),
        ("{min: 18}", "{min: 18, max: 3}", 5, "above max"),
        ("{min: 18}", "{minimum: 18}", 5, "not a known key"),
        ("{name: adults, age_years: {min: 18}}", "{name: adults}", 5, "exactly one of"),
        ("[-30 d, 0 d]", "[-30 months, 0 d]", 6, "number and a unit"),
        ("[-30 d, 0 d]", "[0 d, -30 d]", 6, "ends before it starts"),
        ("{sex: [female, male]}", "{gender: [female]}", 7, "race, sex, site"),
        ("code: outcome//severe", "kode: outcome//severe", 10, "not a known key"),
        ("value: true", "absent: unknown", 8, "absent: negative"),
        ("[0 d, 365 d]", "[-1 d, 365 d]", 12, "after the index"),
        ("365 d\n    include", "-365 d\n    include", 14, "minus"),
        ('["LOINC//*"]', '["outcome//severe"]', 14, "never an input"),
        ('["LOINC//*"]', '["LOINC//*"]\n    categories: {include: [Outcome]}', 14, "never an input"),
        ("train: 0.7", "train: 0.8", 20, "add up to 1.1"),
        ("train: 0.7", "train: much", 21, "number"),
        ("  kind: subject", "  kind: coin", 18, "coin"),
    ],
)
def test_a_mistake_is_shown_with_its_line(
    load: Callable[[str], CohortSpec], old: str, new: str, line: int, words: str
) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as raised:
        load(GOOD.replace(old, new))
    message = str(raised.value)
    assert f"cohort.yaml:{line}: " in message
    assert words in message


def test_every_mistake_is_shown_at_once(load: Callable[[str], CohortSpec]) -> None:
    with pytest.raises(ConfigError) as raised:
        load(GOOD.replace("which: first", "which: x").replace("train: 0.7", "train: x"))
    assert len(str(raised.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ({"kind": "multiclass", "classes": {"a": {"code": "X//a"}}}, "needs `classes`"),
        ({"kind": "multilabel"}, "needs `classes`"),
        ({"classes": {"a": {"code": "X//a"}}}, "one rule"),
        ({"kind": "multiclass", "classes": {"a": {"code": "X//a"}, "b": {"value": 1}}}, "has no code"),
        ({"kind": "multilabel", "classes": {"a": {"code": "X//a"}}}, "absent: negative"),
        (
            {"kind": "multiclass", "absent": "negative", "classes": {c: {"code": c} for c in "ab"}},
            "no class to go to",
        ),
        ({}, "has no code"),
    ],
)
def test_a_label_that_cannot_be_answered_is_refused(
    spec: Callable[..., CohortSpec], label: dict[str, object], words: str
) -> None:
    value = {} if label.get("kind") else {"value": True}
    with pytest.raises(ValueError, match=words):
        spec(label={"task": "t", "window": ["0 d", "1 d"], **value, **label})


def test_a_custom_attribute_may_not_hide_a_column(spec: Callable[..., CohortSpec]) -> None:
    with pytest.raises(ValueError, match="choose another name"):
        spec(audit_attributes={"custom": {"label": {"code": "X//1"}}})
