"""What a generated file holds, as values: the same of OME-TIFF and of DICOM."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from clinimm.core.errors import PARSER_ERRORS, InputRejected
from clinimm.modalities.synthetic import Provenance
from clinimm.staining.signed_attributes import Groups

_CORNER = (128, 256)

#: Micrometres a pixel along a row and along a column, as a file states them.
Spacing = tuple[float, float]


@dataclass(frozen=True)
class FoundLevel:
    """One level of a file: its size in pixels, and the digest of its tiles."""

    columns: int
    rows: int
    digest: str


@dataclass(frozen=True)
class GeneratedFile:
    """A file that was, or may have been, generated.

    Attributes:
        levels: finest first.
        uncertainty: digest of the uncertainty map's values; None where there is no map.
        manifest: the manifest inside the file; None where there is none.
        missing_marks: what should say that it is generated and does not, in words.
        said: what its attributes say of its making; None where nothing marks it as generated.
        labelled: whether the label is in the pixels of the finest and of the coarsest level.
        spacings: level (``size_name``) or ``uncertainty`` -> every pixel spacing that the file states for it.
        groups: part of the file -> its attributes; see ``signed_attributes.py``.
        checked: which series of a DICOM folder was read; empty of a TIFF.
        unchecked: other DICOM files in a folder that was to be read: the name, and the reason where a file
            is damaged.
    """

    levels: tuple[FoundLevel, ...]
    uncertainty: str | None
    manifest: str | None
    missing_marks: tuple[str, ...]
    said: Provenance | None
    labelled: bool
    spacings: Mapping[str, tuple[Spacing, ...]]
    groups: Mapping[str, Groups]
    checked: str = ""
    unchecked: tuple[str, ...] = ()


@contextmanager
def damage_is_refused(name: str, *more: type[Exception]) -> Iterator[None]:
    """Whatever a parser raises inside is said of the file instead.

    Args:
        name: of the file, for people.
        more: what this parser raises besides.

    Raises:
        InputRejected: ``damaged``.
    """
    expected: tuple[type[Exception], ...] = (*PARSER_ERRORS, *more)
    try:
        yield
    except expected as error:
        said = next(iter(str(error).splitlines()), "")
        words = f"{name} is damaged: {type(error).__name__} {said}".rstrip()
        raise InputRejected("damaged", words, "take the file as it was written") from error


def cut_corner(tile: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Of a top left tile what the label is looked for in, cut to an image of so many rows and columns."""
    return tile[: min(_CORNER[0], rows), : min(_CORNER[1], columns)]


def no_corner() -> np.ndarray:
    """Stands for a corner that cannot be decoded: no label can be seen in it."""
    return np.zeros((*_CORNER, 3), np.uint8)
