"""A patient's films, series and slides, as they were on record at the index time (law 1)."""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from clinimm.cohort.stage import read_spec
from clinimm.cohort.window import visible
from clinimm.core.errors import CliniMMError
from clinimm.serve.catalogue import ServedRun
from clinimm.serve.errors import not_found
from clinimm.sources.base import Opener

_SERIES_UID, _INSTANCE_NUMBER, _POSITION, _ORIENTATION = 0x0020000E, 0x00200013, 0x00200032, 0x00200037
_NAME_DIGITS = 16
_Named = TypeVar("_Named", "Series", "SlideFile")


@dataclass(frozen=True)
class Slice:
    """One picture of a series: a frame of a file."""

    uri: str
    frame: int


@dataclass(frozen=True)
class Series:
    """Pictures to scroll through, in anatomical order where the files state it.

    Attributes:
        name: its address on this server: the start of the first file's SHA-256.
        title: kind, body part and view.
        time: when it became available, UTC.
        slices: in order.
        size: width and height, pixels.
    """

    name: str
    title: str
    time: datetime
    slices: tuple[Slice, ...]
    size: tuple[int, int]


@dataclass(frozen=True)
class SlideFile:
    """A slide.

    Attributes:
        name: its address on this server: the start of the file's SHA-256.
        title: the stain.
        time: when it became available, UTC.
        uri: sealed.
    """

    name: str
    title: str
    time: datetime
    uri: str


@dataclass(frozen=True)
class Study:
    """Everything that a patient has to look at."""

    series: tuple[Series, ...]
    slides: tuple[SlideFile, ...]

    def find_series(self, name: str) -> Series:
        """A series by its address.

        Raises:
            Refused: there is none.
        """
        return _found(self.series, name, "series")

    def find_slide(self, name: str) -> SlideFile:
        """A slide by its address.

        Raises:
            Refused: there is none.
        """
        return _found(self.slides, name, "slide")


def read_study(run: ServedRun, subject_id: str, opener: Callable[[], Opener]) -> Study:
    """The pictures of a patient that were on record at the index time.

    Args:
        run: whose patient.
        subject_id: which.
        opener: opens the run's files; asked for only where there are any.
    """
    events = visible_events(run, subject_id, run.answer(subject_id)["index_time"])
    files = events[events["uri"].notna() & events["digest"].notna()].reset_index(drop=True)
    return Study(_series(files, opener()) if len(files) else (), _slides(files))


def visible_events(run: ServedRun, subject_id: str, index_time: pd.Timestamp) -> pd.DataFrame:
    """The subject's events that a model may see (``cohort/window.py``)."""
    path = run.workspace.need("ingest", "events.parquet")
    events = pd.read_parquet(path, filters=[("subject_id", "==", subject_id)])
    spec = read_spec(run.workspace.need("cohort", "spec.json").parent)
    member = pd.DataFrame({"subject_id": [subject_id], "index_time": [index_time]})
    return pd.concat([visible(events, member, spec, name) for name in spec.inputs], ignore_index=True)


def _slides(events: pd.DataFrame) -> tuple[SlideFile, ...]:
    rows = events[events["modality"] == "pathology"]
    return tuple(
        SlideFile(
            str(row["digest"])[:_NAME_DIGITS],
            str(row["code"]).partition("//")[2] or "slide",
            row["time"].to_pydatetime(),
            str(row["uri"]),
        )
        for row in rows.to_dict("records")
    )


def _series(events: pd.DataFrame, opener: Opener) -> tuple[Series, ...]:
    """Files that state the same series together; a file that states none is one of its own."""
    groups: dict[str, list[tuple[tuple[float, ...], Mapping[str, Any]]]] = {}
    for row in events[events["modality"] == "radiology"].to_dict("records"):
        named = {str(key): value for key, value in row.items()}
        try:
            series, place = _placed(mapped(opener, str(named["uri"])))
        except (CliniMMError, OSError):
            series, place = None, (0.0,)
        groups.setdefault(series or str(named["digest"]), []).append((place, named))
    found = [
        _one_series([row for _, row in sorted(rows, key=lambda one: one[0])]) for rows in groups.values()
    ]
    return tuple(sorted(found, key=lambda one: (one.time, one.name)))


def mapped(opener: Opener, uri: str) -> mmap.mmap:
    """A file's bytes, of which only those that are looked at are read; an empty file is an ``OSError``."""
    with opener.local_path(uri).open("rb") as stream:
        try:
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise OSError("the file is empty") from error


def _placed(data: mmap.mmap) -> tuple[str | None, tuple[float, ...]]:
    """The series that a file belongs to, and its place in it: along the normal, else its number."""
    from clinimm.modalities.dicom_header import read_header
    from clinimm.modalities.dicom_values import object_uid

    header = read_header(data)
    number = header.decimals(_INSTANCE_NUMBER) or (0.0,)
    position, axes = header.decimals(_POSITION), header.decimals(_ORIENTATION)
    if position is None or axes is None or len(position) != 3 or len(axes) != 6:
        return object_uid(header, _SERIES_UID), (0.0, number[0])
    along = float(np.dot(np.cross(axes[:3], axes[3:]), position))
    return object_uid(header, _SERIES_UID), (along, number[0])


def _one_series(rows: list[Mapping[str, Any]]) -> Series:
    facts = json.loads(rows[0]["attributes"]) if isinstance(rows[0]["attributes"], str) else {}
    slices = []
    for row in rows:
        known = json.loads(row["attributes"]) if isinstance(row["attributes"], str) else {}
        slices += [Slice(str(row["uri"]), frame) for frame in range(int(known.get("frames") or 1))]
    words = [str(facts.get(name) or "") for name in ("dicom_modality", "body_part", "view")]
    return Series(
        str(rows[0]["digest"])[:_NAME_DIGITS],
        " ".join(word for word in words if word) or "image",
        max(row["time"] for row in rows).to_pydatetime(),
        tuple(slices),
        (int(facts.get("columns") or 0), int(facts.get("rows") or 0)),
    )


def _found(items: tuple[_Named, ...], name: str, what: str) -> _Named:
    for item in items:
        if item.name == name:
            return item
    raise not_found(what)
