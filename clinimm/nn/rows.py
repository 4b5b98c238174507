"""Token rows of many subjects: their order, their limit, and the loop that fills them.

No torch here, so that a modality without a frozen network stays light.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd

from clinimm.core.errors import InputRejected, Refusal
from clinimm.nn.cache import EncoderCache, Entry

if TYPE_CHECKING:
    from clinimm.progress import Progress

LoadedT = TypeVar("LoadedT")


def by_time(frame: pd.DataFrame, *ties: str) -> pd.DataFrame:
    """Rows by subject and then time, oldest first; ``ties`` decide among equal times.

    The order depends on the rows alone, not on the order in which files were found.
    """
    columns = ["subject_id", "time_hours", *ties]
    ascending = [True, False, *([True] * len(ties))]
    return frame.sort_values(columns, ascending=ascending, kind="stable", na_position="first").reset_index(
        drop=True
    )


def most_recent(frame: pd.DataFrame, limit: int, always: pd.Series | None = None) -> pd.DataFrame:
    """The last ``limit`` rows of each subject of a frame that ``by_time`` ordered.

    Args:
        always: True for rows that are kept first; they count towards the limit.
    """
    important = np.zeros(len(frame), dtype=bool) if always is None else always.to_numpy(dtype=bool)
    order = np.lexsort((np.arange(len(frame)), important))
    from_last = frame.iloc[order].groupby("subject_id", sort=False).cumcount(ascending=False)
    return frame[(from_last.sort_index() < limit).to_numpy()].reset_index(drop=True)


def fill_cache(
    items: pd.DataFrame,
    cache: EncoderCache,
    load: Callable[[Mapping[str, Any]], LoadedT],
    compute: Callable[[list[LoadedT]], Sequence[Entry]],
    batch_size: int,
    progress: Progress,
) -> tuple[dict[str, Refusal], dict[str, int]]:
    """Encode every item that the cache does not hold.

    Args:
        items: one row an item, with ``digest``; the same digest twice is one item.
        load: reads one item; an ``InputRejected`` or an unreadable file refuses that item only. A
            reader translates what its library raises on a bad file into ``InputRejected``; anything
            else is a mistake in the code, ends the stage and names the item.
        compute: encodes loaded items; its entries go into the cache.

    Returns:
        Refusals by digest, and the counts ``cache_hits`` and ``cache_misses``.
    """
    unique = items.drop_duplicates("digest")
    found = [cache.get(digest) is not None for digest in unique["digest"]]
    missing = _records(unique[~np.asarray(found, dtype=bool)])
    refusals: dict[str, Refusal] = {}
    waiting: list[tuple[str, LoadedT]] = []

    def flush() -> None:
        for (digest, _), entry in zip(waiting, compute([item for _, item in waiting]), strict=True):
            cache.put(digest, entry)
        waiting.clear()

    label = f"encode {cache.identity.get('modality', '')}".strip()
    for row in progress.track(missing, label, total=len(missing)) if missing else ():
        digest = str(row["digest"])
        try:
            waiting.append((digest, load(row)))
        except InputRejected as error:
            refusals[digest] = Refusal(digest, str(row["code"]), error.code, error.reason, error.remedy)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            remedy = "check that the source still holds the file, or ingest again"
            refusals[digest] = Refusal(digest, str(row["code"]), "unreadable", reason, remedy)
        except Exception as error:
            error.add_note(
                f"This was raised by the reader of {row['code']} on the item with digest {digest}."
            )
            raise
        if len(waiting) >= batch_size:
            flush()
    if waiting:
        flush()
    counts = {"cache_hits": sum(found), "cache_misses": len(missing)}
    return refusals, counts


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def gather(
    items: pd.DataFrame, cache: EncoderCache, describe: Callable[[Mapping[str, Any], Entry], pd.DataFrame]
) -> tuple[pd.DataFrame, np.ndarray]:
    """The cached entries of ``items`` as token rows and their values, in the order of ``items``.

    The values lie in an unnamed temporary file beside the cache, not in memory: a hospital's
    images may be larger than that.

    Args:
        describe: an item and its entry -> one row a token, as many as ``entry["values"]`` has.
    """
    frames: list[pd.DataFrame] = []
    shape: tuple[int, ...] = (0,)
    with tempfile.TemporaryFile(dir=cache.folder) as stream:
        for item in _records(items):
            entry = cache.get(str(item["digest"]))
            if entry is None or not len(entry["values"]):
                continue
            rows = describe(item, entry)
            frames.append(rows.assign(subject_id=item["subject_id"], time_hours=float(item["time_hours"])))
            shape = entry["values"].shape[1:]
            stream.write(np.ascontiguousarray(entry["values"], dtype=np.float16).tobytes())
        if not frames:
            return items[["subject_id", "time_hours"]].iloc[:0].copy(), np.zeros((0, *shape), np.float16)
        stream.flush()
        tokens = pd.concat(frames, ignore_index=True)
        return tokens, np.memmap(stream, np.float16, "r", shape=(len(tokens), *shape))
