"""The end of the incident records, signed: a record that was taken off the end is noticed.

Each record names the one before, which tells of a change, and of a gap. That the last one is gone it cannot
tell. So each record's number and digest are also a line of a chained log whose end is signed
(``core/chained_log.py``), and whoever looks may keep that end elsewhere: a folder that was set back whole,
log and all, is noticed by that.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from clinimm.core.chain import Head, LogForm
from clinimm.core.chained_log import ChainedLog
from clinimm.core.check_log import check_log, read_lines
from clinimm.core.errors import IntegrityError
from clinimm.core.record import write_text
from clinimm.core.sign import check_listed, sign

if TYPE_CHECKING:
    from clinimm.monitor.incident import Incident

FORM = LogForm("incident log", "incidents.log", "incidents.head", "clinimm.incident-log/1")
RECORDED = "recorded"
KEPT_NAME = "incidents-seen.json"


def check_end(
    folder: Path,
    records: Sequence[Incident],
    trusted: Collection[str] = (),
    kept: Head | None = None,
) -> None:
    """Hold the records against the log.

    A last record without a line is what a crash leaves between the two; it is let pass and signed by the
    next record.

    Args:
        folder: of the records.
        records: as they lie there, chained to each other.
        trusted: public keys beside this user's own that may have signed the log.
        kept: the log's end as it was seen earlier.

    Raises:
        IntegrityError: a record is gone from the end, the log is, or a stranger signed it.
    """
    if not (folder / FORM.log_name).exists() and not (folder / FORM.head_name).exists():
        if kept is not None and kept.number:
            raise IntegrityError(
                f"{folder}: the incident log is gone; an earlier look saw {kept.number} lines."
            )
        if len(records) > 1:
            raise IntegrityError(
                f"{folder}: {len(records)} records, and no {FORM.log_name} with their signed end."
            )
        return
    vouched = {*trusted, sign(b"").public_key}
    state = check_log(folder, FORM, partial(check_listed, trusted=vouched), kept)
    if not state.whole:
        raise IntegrityError(f"{folder / FORM.log_name}: {' '.join(state.problems)}")
    written = _written(folder)
    lying = [one.digest for one in records]
    if lying[: len(written)] != written or len(lying) > len(written) + 1:
        raise IntegrityError(
            f"{folder}: the signed log tells of {len(written)} records, and "
            f"{len(lying)} lie there{_first_wrong(lying, written)}."
        )


def write_end(folder: Path, records: Sequence[Incident], trusted: Collection[str] = ()) -> None:
    """Add a line for every record that has none yet, and sign the end."""
    log = ChainedLog(folder, FORM, trusted=trusted)
    for one in records[len(_written(folder)) :]:
        log.append({"action": RECORDED, "incident": one.number, "record": one.digest})


def read_kept(place: Path, folder: Path) -> Head | None:
    """The log's end as the last look that wrote into ``place`` saw it; None where there was none.

    Raises:
        IntegrityError: the file is no such end.
    """
    path = place / KEPT_NAME
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        head = Head(int(value["number"]), str(value["digest"]))
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{path}: not the end of an incident log.") from error
    return head if value.get("folder") == str(folder.resolve()) else None


def keep_end(place: Path, folder: Path) -> None:
    """Note the log's end in another folder, for the next look."""
    path = folder / FORM.head_name
    if path.is_file():
        head = Head(**{key: json.loads(path.read_text("utf-8"))["head"][key] for key in ("number", "digest")})
        note = {**asdict(head), "folder": str(folder.resolve())}
        write_text(place / KEPT_NAME, json.dumps(note, sort_keys=True) + "\n")


def _written(folder: Path) -> list[str]:
    path = folder / FORM.log_name
    lines = read_lines(path) if path.is_file() else ()
    return [str(value["record"]) for value, _ in lines if value.get("action") == RECORDED]


def _first_wrong(lying: Sequence[str], written: Sequence[str]) -> str:
    pairs = enumerate(zip(lying, written, strict=False), start=1)
    number = next((place for place, (one, other) in pairs if one != other), None)
    if number is not None:
        return f"; record {number} is not the one that was logged"
    gone = ", ".join(f"{place:04d}" for place in range(len(lying) + 1, len(written) + 1))
    return f"; incident {gone} was removed" if gone else ""
