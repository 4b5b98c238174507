import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from clinimm.ingest.duplicates import settle
from clinimm.ingest.shard import FACT_SCHEMA

_ROW = st.fixed_dictionaries(
    {
        "instance": st.sampled_from(["Observation/1", "Observation/2", None]),
        "file": st.integers(0, 2),
        "copy": st.integers(0, 1),
        "version_us": st.sampled_from([None, 1, 2]),
        "numeric_value": st.sampled_from([1.0, 2.0]),
    }
)


def table(rows: list[dict[str, object]]) -> pa.Table:
    full = [
        dict.fromkeys(FACT_SCHEMA.names)
        | {"code": "X//1", "time_us": 0, "modality": "ehr", "is_file": False}
        | row
        for row in rows
    ]
    return pa.Table.from_pylist(full, FACT_SCHEMA)


@settings(deadline=None, max_examples=60)
@given(st.lists(_ROW, max_size=12))
def test_of_each_object_exactly_one_copy_stays_whole_and_it_is_a_latest_one(
    rows: list[dict[str, object]],
) -> None:
    facts = table(rows)
    subject = np.zeros(len(rows), np.int64)
    keep, clash, _ = settle(facts, subject, subject)
    assert not clash.any()
    for name in {row["instance"] for row in rows}:
        mine = [k for k, row in enumerate(rows) if row["instance"] == name]
        if name is None:
            assert all(keep[k] for k in mine)
            continue
        copies = {(rows[k]["file"], rows[k]["copy"]) for k in mine if keep[k]}
        assert len(copies) == 1
        (copy,) = copies
        assert all(keep[k] == ((rows[k]["file"], rows[k]["copy"]) == copy) for k in mine)
        latest = max((rows[k]["version_us"] or 0) for k in mine)  # type: ignore[call-overload]
        assert max((rows[k]["version_us"] or 0) for k in mine if keep[k]) == latest  # type: ignore[call-overload]


def test_one_id_of_two_patients_is_two_objects() -> None:
    facts = table([{"instance": "Observation/1", "file": k, "copy": 0} for k in range(2)])
    keep, _, dropped = settle(facts, np.array([0, 1]), np.array([0, 1]))
    assert keep.all()
    assert sum(dropped.values()) == 0
