from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from clinimm.ingest.duplicates import NEVER, UNDATED, settle
from clinimm.ingest.shard import FACT_SCHEMA

Rows = list[dict[str, Any]]


@st.composite
def _rows(draw: st.DrawFn) -> Rows:
    """Objects of one or two rows, each with its version; a row's own time is at or before it."""
    found: Rows = []
    for copy in range(draw(st.integers(1, 8))):
        version = draw(st.integers(1, 9))
        one = {
            "instance": draw(st.sampled_from(["Observation/1", "Observation/2"])),
            "file": draw(st.integers(0, 1)),
            "copy": copy,
            "version_us": version,
        }
        if draw(st.booleans()) and draw(st.booleans()):
            found.append({**one, "code": None, "time_us": 0})
            continue
        for code in draw(st.sets(st.sampled_from(["X//1", "X//2"]), min_size=1)):
            time, value = draw(st.integers(0, version)), draw(st.sampled_from([1.0, 2.0]))
            found.append({**one, "code": code, "time_us": time, "numeric_value": value})
    return found


def table(rows: Rows) -> pa.Table:
    full = [
        dict.fromkeys(FACT_SCHEMA.names)
        | {"code": "X//1", "time_us": 0, "modality": "ehr", "is_file": False}
        | row
        for row in rows
    ]
    return pa.Table.from_pylist(full, FACT_SCHEMA)


def seen_at(rows: Rows, now: int) -> list[tuple[Any, ...]]:
    """What stands at a time: id, code, value and since when."""
    subject = np.zeros(len(rows), np.int64)
    found = settle(table(rows), subject, subject)
    return sorted(
        (row["instance"], row["code"], row["numeric_value"], int(since))
        for row, keep, since, until in zip(rows, found.keep, found.time_us, found.until_us, strict=True)
        if keep and since <= now < until
    )


@settings(deadline=None, max_examples=150)
@given(_rows(), st.integers(0, 9))
def test_law_1_a_later_version_changes_nothing_that_was_seen_before_it(rows: Rows, now: int) -> None:
    first: dict[str, int] = {}
    for row in rows:
        first[row["instance"]] = min(first.get(row["instance"], 9), row["version_us"])
    # The first version has its own time: its `lastUpdated` may be that of the export.
    known = [row for row in rows if row["version_us"] <= max(now, first[row["instance"]])]
    assert seen_at(rows, now) == seen_at(known, now)


@settings(deadline=None, max_examples=100)
@given(_rows())
def test_in_the_end_a_last_version_stands_whole_and_alone(rows: Rows) -> None:
    for name in {row["instance"] for row in rows}:
        mine = [row for row in rows if row["instance"] == name]
        last = max(row["version_us"] for row in mine)
        numbers = {row["copy"] for row in mine if row["version_us"] == last}
        standing = [(code, value) for one, code, value, _ in seen_at(rows, NEVER - 1) if one == name]
        of_last = [
            sorted(
                (row["code"], row["numeric_value"]) for row in mine if row["copy"] == number and row["code"]
            )
            for number in numbers
        ]
        assert sorted(standing) in of_last


def test_a_fact_without_an_id_is_never_a_copy() -> None:
    zeros = np.zeros(2, np.int64)
    assert settle(table([{"instance": None}, {"instance": None}]), zeros, zeros).keep.all()


def test_where_nothing_orders_two_contents_the_later_read_stays_as_undated() -> None:
    rows: Rows = [{"instance": "Observation/1", "file": k, "copy": 0, "numeric_value": k} for k in (0, 1)]
    zeros = np.zeros(2, np.int64)
    found = settle(table(rows), zeros, zeros)
    assert found.keep.tolist() == [False, True]
    assert found.revision.tolist() == [0, UNDATED]
    assert found.dropped["older-version"] == 1


def test_a_result_that_says_itself_when_it_was_issued_again_replaces_the_first_one_then() -> None:
    rows: Rows = [
        {"instance": "Observation/1", "file": 0, "copy": copy, "numeric_value": copy, "time_us": time}
        for copy, time in ((0, 20), (1, 8))
    ]
    zeros = np.zeros(2, np.int64)
    found = settle(table(rows), zeros, zeros)
    assert found.until_us.tolist() == [NEVER, 20]
    assert found.time_us.tolist() == [20, 8]
    assert found.keep.all()


def test_one_id_of_two_patients_is_two_objects() -> None:
    facts = table([{"instance": "Observation/1", "file": k, "copy": 0} for k in range(2)])
    found = settle(facts, np.array([0, 1]), np.array([0, 1]))
    assert found.keep.all()
    assert not found.clash.any()
    assert sum(found.dropped.values()) == 0
