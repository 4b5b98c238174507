"""Objects that were read more than once: copies go, versions are settled, clashes are flagged."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pyarrow as pa

#: Columns that make two copies of one object equal.
_CONTENT = [
    "time_us",
    "code",
    "modality",
    "category",
    "numeric_value",
    "unit",
    "text_value",
    "flags",
    "attributes",
]


def settle(
    facts: pa.Table, subject: np.ndarray, digest: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Counter[str]]:
    """Which rows stay, and which are to be flagged.

    Args:
        facts: rows in a fixed order, with the columns of a shard and ``file`` for the whole run.
        subject: (row,) code of each row's subject.
        digest: (row,) code of each row's file's content.

    Returns:
        (row,) whether it stays; (row,) whether its unique id names two different files; and how
        many objects were dropped for which reason: ``duplicate`` (same content),
        ``older-version`` (same id, other content, the later ``meta.lastUpdated`` or the later file
        stays) and ``withdrawn`` (a later version says that it was entered in error).
    """
    keep = np.ones(facts.num_rows, bool)
    clash = np.zeros(facts.num_rows, bool)
    dropped: Counter[str] = Counter()
    is_file = facts["is_file"].to_numpy(zero_copy_only=False)
    has_id = facts["instance"].is_valid().to_numpy(zero_copy_only=False)
    _settle_files(facts, np.flatnonzero(is_file & has_id), digest, keep, clash, dropped)
    _settle_records(facts, np.flatnonzero(~is_file & has_id), subject, keep, dropped)
    keep &= facts["code"].is_valid().to_numpy(zero_copy_only=False)
    return keep, clash, dropped


def _settle_files(
    facts: pa.Table,
    rows: np.ndarray,
    digest: np.ndarray,
    keep: np.ndarray,
    clash: np.ndarray,
    dropped: Counter[str],
) -> None:
    """Files with one unique id: equal bytes are one, different bytes clash."""
    frame = pd.DataFrame({"id": _codes(facts["instance"], rows), "digest": digest[rows]})
    copies = frame.duplicated().to_numpy()
    keep[rows[copies]] = False
    dropped["duplicate"] += int(copies.sum())
    versions = frame.groupby("id")["digest"].transform("nunique").to_numpy()
    clash[rows] = versions > 1


def _settle_records(
    facts: pa.Table, rows: np.ndarray, subject: np.ndarray, keep: np.ndarray, dropped: Counter[str]
) -> None:
    """Resources with one id: the latest version stays, with all its rows."""
    frame = pd.DataFrame(
        {
            "id": _codes(facts["instance"], rows),
            "subject": subject[rows],
            "file": facts["file"].to_numpy()[rows],
            "copy": facts["copy"].to_numpy()[rows],
        }
    )
    objects = frame.drop_duplicates()
    several = objects.duplicated(["id", "subject"], keep=False)
    if not several.any():
        return
    many = objects[several][["id", "subject"]].drop_duplicates()
    chosen = frame.merge(many.assign(many=True), on=["id", "subject"], how="left")["many"].notna().to_numpy()
    rows, frame = rows[chosen], frame[chosen].reset_index(drop=True)
    part = facts.take(pa.array(rows))
    frame["version"] = part["version_us"].fill_null(np.iinfo(np.int64).min).to_numpy()
    frame["withdrawn"] = part["code"].is_null().to_numpy(zero_copy_only=False)
    frame["content"] = pd.util.hash_pandas_object(part.select(_CONTENT).to_pandas(), index=False).to_numpy()
    key = ["id", "subject", "file", "copy"]
    objects = frame.groupby(key, sort=True).agg(
        version=("version", "max"), withdrawn=("withdrawn", "any"), content=("content", "sum")
    )
    objects = objects.reset_index().sort_values(["id", "subject", "version", "file", "copy"], kind="stable")
    last = objects.groupby(["id", "subject"]).tail(1)
    losers = objects.drop(last.index).merge(
        last[["id", "subject", "content", "withdrawn"]], on=["id", "subject"], suffixes=("", "_last")
    )
    same = losers["content"] == losers["content_last"]
    dropped["duplicate"] += int((same & ~losers["withdrawn"]).sum())
    dropped["withdrawn"] += int((~same & losers["withdrawn_last"] & ~losers["withdrawn"]).sum())
    dropped["older-version"] += int((~same & ~losers["withdrawn_last"]).sum())
    stays = frame.merge(last[key].assign(stays=True), on=key, how="left")["stays"].notna().to_numpy()
    keep[rows[~stays]] = False


def _codes(column: pa.ChunkedArray, rows: np.ndarray) -> np.ndarray:
    encoded = column.combine_chunks().dictionary_encode()
    return np.asarray(encoded.indices.fill_null(-1))[rows]
