from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clinimm.audit.groups import MISSING
from clinimm.audit.table.read import read_audit_table
from clinimm.audit.table_settings import TableSettings
from clinimm.core.errors import DataError
from tests.audit.table.conftest import draw_table

_SETTINGS = TableSettings(threshold=0.3)


def test_csv_and_parquet_give_the_same_rows(write: Callable[..., Path]) -> None:
    table = draw_table(300)
    first, second = (
        read_audit_table(write(table, name), _SETTINGS, ["race", "sex"]).rows
        for name in ("t.csv", "t.parquet")
    )
    assert np.array_equal(first.label, second.label)
    assert np.array_equal(first.probability, second.probability)
    for name in ("race", "sex"):
        assert first.attributes[name].levels == second.attributes[name].levels
        assert np.array_equal(first.attributes[name].code, second.attributes[name].code)


def test_a_missing_attribute_is_a_level_of_its_own(write: Callable[..., Path]) -> None:
    table = draw_table(300)
    column = read_audit_table(write(table), _SETTINGS, ["race"]).rows.attributes["race"]
    assert column.levels == ("a", "b", "c", MISSING)
    assert np.sum(column.code == 3) == table["race"].isna().sum()


def test_numbers_are_binned_and_edges_belong_above(write: Callable[..., Path]) -> None:
    table = draw_table(4)
    table["label"], table["age"] = [0, 1, 0, 1], [39.0, 40.0, 65.0, None]
    settings = TableSettings.model_validate({"threshold": 0.3, "attributes": {"age": {"bins": [40, 65]}}})
    column = read_audit_table(write(table), settings, ["age"]).rows.attributes["age"]
    read = [column.levels[code] for code in column.code]
    assert read == ["below 40", "40 to below 65", "65 and above", MISSING]


def test_labels_may_be_booleans_or_words(write: Callable[..., Path]) -> None:
    table = draw_table(50)
    want = table["label"].to_numpy()
    for label in (table["label"] == 1, table["label"].astype(float), table["label"].astype(str)):
        read = read_audit_table(write(table.assign(label=label)), _SETTINGS, ["sex"])
        assert np.array_equal(read.rows.label, want)


def test_several_rows_of_a_subject_become_clusters(write: Callable[..., Path]) -> None:
    table = draw_table(60)
    assert read_audit_table(write(table), _SETTINGS, ["sex"]).rows.cluster is None
    table["subject_id"] = [f"s{number // 2}" for number in range(60)]
    read = read_audit_table(write(table), _SETTINGS, ["sex"])
    assert read.subjects == 30
    assert read.rows.cluster is not None


def _set(column: str, value: object, rows: int = 3) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        table = table.astype({column: object}) if isinstance(value, str) else table
        table.loc[table.index[5 : 5 + rows], column] = value
        return table

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop(columns="label"), r"no column label; it has subject_id.*--label"),
        (lambda t: t.rename(columns={"sex": "sexx"}), "Did you mean sexx"),
        (_set("probability", 1.2), r"3 rows are outside 0 to 1.*first is row 6 below.*Give probabilities"),
        (lambda t: t.assign(probability=t["probability"] * 90), "divide by 100"),
        (lambda t: t.assign(probability="high"), "expected numbers from 0 to 1"),
        (_set("probability", np.inf), "no number"),
        (_set("probability", np.nan), "3 rows are (empty|no number)"),
        (_set("label", 2), "expected 0 and 1 .*got 2.*one outcome at a time"),
        (lambda t: t.assign(label=0), "every row is 0"),
        (_set("subject_id", None, 1), "subject_id: 1 row is empty"),
        (lambda t: pd.concat([t, t.iloc[:2]]), "2 rows are equal to an earlier row of the same subject"),
        (lambda t: t.iloc[:0], "no rows"),
        (lambda t: t.assign(sex=[f"x{n}" for n in range(len(t))]), r"at most 30.*--bins sex=18,40,65"),
    ],
)
def test_a_bad_table_is_refused_with_the_remedy(
    write: Callable[..., Path], change: Callable[[pd.DataFrame], pd.DataFrame], said: str
) -> None:
    path = write(change(draw_table(100)))
    with pytest.raises(DataError, match=f"(?s){said}"):
        read_audit_table(path, _SETTINGS, ["race", "sex"])


def test_equal_rows_pass_where_each_row_has_a_name(write: Callable[..., Path]) -> None:
    table = draw_table(100)
    table = pd.concat([table, table.iloc[:2]])
    table["encounter"] = np.arange(len(table))
    settings = TableSettings.model_validate({"threshold": 0.3, "columns": {"row": "encounter"}})
    assert read_audit_table(write(table), settings, ["sex"]).rows.n == 102
    table["encounter"] = 1
    with pytest.raises(DataError, match="named like an earlier row"):
        read_audit_table(write(table), settings, ["sex"])


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_audit_table(tmp_path / "no.parquet", _SETTINGS, ["sex"])
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match="cannot be read"):
        read_audit_table(broken, _SETTINGS, ["sex"])
    sheet = tmp_path / "table.xlsx"
    sheet.write_bytes(b"PK")
    with pytest.raises(DataError, match=r"expected a \.parquet or \.csv file, got \.xlsx"):
        read_audit_table(sheet, _SETTINGS, ["sex"])


def test_an_identifier_is_no_attribute(write: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="subject_id is not an attribute"):
        read_audit_table(write(draw_table(50)), _SETTINGS, ["subject_id"])
