"""Objects that were read more than once: copies go, versions follow each other, clashes are flagged.

A resource that changed is several facts, each known for a while (decision 0010): an earlier version
is true to what was seen until the next one came, and what is new in that one was not known before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

#: ``until_us`` of a fact that stands.
NEVER = np.iinfo(np.int64).max
#: ``revision`` of a fact that a later version brought; nothing states when in the case of UNDATED.
REVISED, UNDATED = 1, 2
REVISION_FLAGS = {REVISED: "revised", UNDATED: "undated_revision"}

#: Columns that make two copies of one object equal, besides the time.
_CONTENT = ["code", "modality", "category", "numeric_value", "unit", "text_value", "flags", "attributes"]
_OBJECT = ["id", "subject", "file", "copy"]
_UNSTATED = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Settlement:
    """What becomes of rows; each array is (row,).

    Attributes:
        keep: whether it stays.
        clash: whether its unique id names two different files.
        time_us: when it became available, which is later than stated where a later version brought it.
        until_us: when a later version replaced it or took it back; ``NEVER`` where it stands.
        revision: ``REVISED``, ``UNDATED`` or 0.
        dropped: objects that were dropped for which reason: ``duplicate`` (same content),
            ``older-version`` and ``withdrawn`` (a version came after it, and nothing states when).
    """

    keep: np.ndarray
    clash: np.ndarray
    time_us: np.ndarray
    until_us: np.ndarray
    revision: np.ndarray
    dropped: Counter[str] = field(default_factory=Counter)


def settle(facts: pa.Table, subject: np.ndarray, digest: np.ndarray) -> Settlement:
    """Which rows stay, from when until when.

    Args:
        facts: rows in a fixed order, with the columns of a shard and ``file`` for the whole run.
        subject: (row,) code of each row's subject.
        digest: (row,) code of each row's file's content.
    """
    size = facts.num_rows
    found = Settlement(
        keep=np.ones(size, bool),
        clash=np.zeros(size, bool),
        time_us=facts["time_us"].to_numpy().copy(),
        until_us=np.full(size, NEVER),
        revision=np.zeros(size, np.int8),
    )
    is_file = facts["is_file"].to_numpy(zero_copy_only=False)
    has_id = facts["instance"].is_valid().to_numpy(zero_copy_only=False)
    _settle_files(facts, np.flatnonzero(is_file & has_id), digest, found)
    _settle_records(facts, np.flatnonzero(~is_file & has_id), subject, found)
    found.keep[facts["code"].is_null().to_numpy(zero_copy_only=False)] = False
    return found


def _settle_files(facts: pa.Table, rows: np.ndarray, digest: np.ndarray, found: Settlement) -> None:
    """Files with one unique id: equal bytes are one, different bytes clash."""
    frame = pd.DataFrame({"id": _codes(facts["instance"], rows), "digest": digest[rows]})
    copies = frame.duplicated().to_numpy()
    found.keep[rows[copies]] = False
    found.dropped["duplicate"] += int(copies.sum())
    versions = frame.groupby("id")["digest"].transform("nunique").to_numpy()
    found.clash[rows] = versions > 1


def _settle_records(facts: pa.Table, rows: np.ndarray, subject: np.ndarray, found: Settlement) -> None:
    """Resources with one id: copies go, and versions are replayed in their order."""
    frame = pd.DataFrame(
        {
            "id": _codes(facts["instance"], rows),
            "subject": subject[rows],
            "file": facts["file"].to_numpy()[rows],
            "copy": facts["copy"].to_numpy()[rows],
            "row": rows,
        }
    )
    frame = _read_more_than_once(frame)
    if frame.empty:
        return
    frame = _described(frame, facts.take(pa.array(frame["row"].to_numpy())))
    objects = _in_order(frame)
    before = objects.groupby(["id", "subject"])[["content", "withdrawn"]].shift()
    same = (objects["content"] == before["content"]) & (objects["withdrawn"] == before["withdrawn"])
    found.dropped["duplicate"] += int((same & ~objects["withdrawn"]).sum())
    frame = frame.merge(objects[same.to_numpy()][_OBJECT].assign(same=True), on=_OBJECT, how="left")
    found.keep[frame.loc[frame["same"].notna(), "row"]] = False
    _replay_all(frame[frame["same"].isna()], objects[~same.to_numpy()], found)


def _read_more_than_once(frame: pd.DataFrame) -> pd.DataFrame:
    objects = frame[_OBJECT].drop_duplicates()
    many = objects.loc[objects.duplicated(["id", "subject"], keep=False), ["id", "subject"]]
    return frame.merge(many.drop_duplicates(), on=["id", "subject"])


def _described(frame: pd.DataFrame, part: pa.Table) -> pd.DataFrame:
    """Each row with its version, its own time and a key that is equal for equal facts."""
    content = part.select(_CONTENT).to_pandas()
    # The time of a correction is a bound that differs from one export to the next.
    bound = content["flags"].fillna("").str.split(",").map(lambda flags: "revised" in flags)
    time = part["time_us"].to_numpy()
    content["time_us"] = np.where(bound.to_numpy(dtype=bool), 0, time)
    withdrawn = part["code"].is_null().to_numpy(zero_copy_only=False)
    frame = frame.assign(
        version=part["version_us"].fill_null(_UNSTATED).to_numpy(),
        withdrawn=withdrawn,
        time=np.where(withdrawn, _UNSTATED, time),
        key=pd.util.hash_pandas_object(content, index=False).to_numpy(),
    )
    return frame.assign(nth=frame.groupby([*_OBJECT, "key"]).cumcount())


def _in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """One row an object, an id's versions from the first to the last.

    The order is that of ``meta.lastUpdated``; of a version without it, that of its facts' own time;
    and a withdrawal without it is the last, because nothing follows one.
    """
    objects = frame.groupby(_OBJECT, sort=True).agg(
        version=("version", "max"),
        withdrawn=("withdrawn", "any"),
        time=("time", "max"),
        content=("key", "sum"),
    )
    objects = objects.reset_index()
    # Small numbers: a shifted column is one of floats, which would round the hashes.
    objects["content"] = pd.factorize(objects["content"])[0]
    stated = objects["stated"] = objects["version"] != _UNSTATED
    last = objects["time"].where(~objects["withdrawn"], NEVER)
    objects["since"] = objects["version"].where(stated, last)
    return objects.sort_values(["id", "subject", "since", "withdrawn", "time", "file", "copy"], kind="stable")


class _Version(NamedTuple):
    """One version: since when it is the last word, its own latest time, and its rows by content."""

    since: int
    stated: bool
    time: int
    withdrawn: bool
    rows: dict[tuple[int, int], int]


def _replay_all(frame: pd.DataFrame, objects: pd.DataFrame, found: Settlement) -> None:
    several = objects.duplicated(["id", "subject"], keep=False).to_numpy()
    if not several.any():
        return
    rows: dict[tuple[int, ...], dict[tuple[int, int], int]] = {}
    for *name, key, nth, row in frame[[*_OBJECT, "key", "nth", "row"]].itertuples(index=False):
        rows.setdefault(tuple(name), {})[key, nth] = row
    versions: dict[tuple[int, ...], list[_Version]] = {}
    columns = [*_OBJECT, "since", "stated", "time", "withdrawn"]
    for *name, since, stated, time, withdrawn in objects.loc[several, columns].itertuples(index=False):
        content = {} if withdrawn else rows[tuple(name)]
        versions.setdefault(tuple(name[:2]), []).append(_Version(since, stated, time, withdrawn, content))
    for several_of_one in versions.values():
        _replay(several_of_one, found)


def _replay(versions: Sequence[_Version], found: Settlement) -> None:
    """Let the versions of one object follow each other; what one carries over stays as it was."""
    standing = dict(versions[0].rows)
    for previous, version in pairwise(versions):
        changed = _time_of_change(previous, version)
        for key in standing.keys() & version.rows.keys():
            found.keep[version.rows[key]] = False
        gone = [standing.pop(key) for key in list(standing) if key not in version.rows]
        lost = [row for row in gone if changed is None or changed <= found.time_us[row]]
        found.until_us[gone] = NEVER if changed is None else changed
        found.keep[lost] = False
        found.dropped["withdrawn" if version.withdrawn else "older-version"] += bool(lost)
        for key in version.rows.keys() - standing.keys():
            row = standing[key] = version.rows[key]
            found.revision[row] = UNDATED if changed is None else REVISED
            if changed is not None:
                found.time_us[row] = max(found.time_us[row], changed)


def _time_of_change(previous: _Version, version: _Version) -> int | None:
    """When a version took the place of the one before; None where nothing states it."""
    if version.stated or previous.since < version.since < NEVER:
        return version.since
    return version.time if version.time > previous.time else None


def _codes(column: pa.ChunkedArray, rows: np.ndarray) -> np.ndarray:
    encoded = column.combine_chunks().dictionary_encode()
    return np.asarray(encoded.indices.fill_null(-1))[rows]
