from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from clinimm.cohort.folds import find_folds_file, read_folds
from clinimm.core.errors import ConfigError, DataError
from clinimm.core.pseudonym import Pseudonymiser

PSEUDONYMISER = Pseudonymiser(b"0123456789abcdef")


@pytest.fixture
def subjects() -> pd.DataFrame:
    rows = [("s1", "MRN1"), ("s2", "MRN2"), ("s2", "OLD2")]
    return pd.DataFrame(
        {
            "subject_id": [subject for subject, _ in rows],
            "identifier_hash": [PSEUDONYMISER.identifier(one) for _, one in rows],
        }
    )


def _file(folder: Path, text: str) -> Path:
    path = folder / "folds.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_identifiers_become_subjects_and_strangers_are_counted(
    tmp_path: Path, subjects: pd.DataFrame
) -> None:
    path = _file(tmp_path, "patient_id,repeat,fold\nMRN1,0,0\n OLD2,0,1\nNOBODY,0,1\nNOBODY,1,1\n")
    folds = read_folds(path, subjects, PSEUDONYMISER)
    assert folds.unknown == 1
    assert folds.table.to_numpy().tolist() == [["s1", 0, 0], ["s2", 0, 1]]


def test_only_the_first_repeats_are_taken_where_that_is_asked(tmp_path: Path, subjects: pd.DataFrame) -> None:
    path = _file(tmp_path, "patient_id,repeat,fold\nMRN1,3,0\nOLD2,3,1\nMRN1,7,1\nOLD2,7,0\n")
    assert len(read_folds(path, subjects, PSEUDONYMISER).table) == 4
    assert read_folds(path, subjects, PSEUDONYMISER, repeats=1).table["repeat"].unique().tolist() == [3]
    with pytest.raises(ConfigError, match="repeats is 3, and the file has 2"):
        read_folds(path, subjects, PSEUDONYMISER, repeats=3)


def test_two_identifiers_of_one_patient_may_not_be_in_two_folds(
    tmp_path: Path, subjects: pd.DataFrame
) -> None:
    same = _file(tmp_path, "patient_id,repeat,fold\nMRN2,0,1\nOLD2,0,1\n")
    assert len(read_folds(same, subjects, PSEUDONYMISER).table) == 1
    both = _file(tmp_path, "patient_id,repeat,fold\nMRN2,0,0\nOLD2,0,1\n")
    with pytest.raises(DataError, match="1 patients have two folds"):
        read_folds(both, subjects, PSEUDONYMISER)


def test_another_key_or_another_hospital_is_said_to_be_one(tmp_path: Path, subjects: pd.DataFrame) -> None:
    path = _file(tmp_path, "patient_id,repeat,fold\nMRN1,0,0\n")
    with pytest.raises(DataError, match="none of its 1 patients"):
        read_folds(path, subjects, Pseudonymiser(b"another key, as long"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be read"),
        ("patient,repeat,fold\nMRN1,0,0\n", ":1: the column patient_id is missing"),
        ("patient_id,repeat,fold\nMRN1,0,0\nMRN2,0,x\n", ":3: fold: expected a whole number"),
        ("patient_id,repeat,fold\nMRN1,-1,0\n", ":2: repeat: expected a whole number"),
        ("patient_id,repeat,fold\n,0,0\n", ":2: patient_id is empty"),
    ],
)
def test_a_wrong_file_is_shown_with_its_line(
    tmp_path: Path, subjects: pd.DataFrame, text: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        read_folds(_file(tmp_path, text), subjects, PSEUDONYMISER)


def test_the_file_beside_the_cohort_comes_before_those_of_the_sources(tmp_path: Path) -> None:
    cohort, source = tmp_path / "cohorts", tmp_path / "export"
    cohort.mkdir()
    source.mkdir()
    name = Path("folds.csv")
    with pytest.raises(ConfigError, match=r"no folds file folds.csv.*(?s:.*)repeated_group_k_fold"):
        find_folds_file(name, cohort / "c.yaml", [source])
    in_source = _file(source, "")
    assert find_folds_file(name, cohort / "c.yaml", [source]) == in_source
    beside = _file(cohort, "")
    assert find_folds_file(name, cohort / "c.yaml", [source]) == beside
