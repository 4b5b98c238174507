"""Which stain a slide shows, and of which block it was cut, as its name or its header says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset

#: What is taken for granted of a slide that does not say: the stain of nearly every slide.
USUAL = "HE"
#: Of a slide whose header states a stain that has no name here.
UNKNOWN = "UNKNOWN"

#: Names that count as a stain at the end of a file's name, and what they mean.
_NAMES = {
    "HE": "HE", "HANDE": "HE", "KI67": "KI67", "MIB1": "KI67", "CD3": "CD3", "CD8": "CD8",
    "CD20": "CD20", "CD31": "CD31", "CD34": "CD34", "CD68": "CD68", "ER": "ER", "PR": "PR", "HER2": "HER2",
    "P53": "P53", "P63": "P63", "PDL1": "PDL1", "PANCK": "PANCK", "CK": "PANCK", "CK7": "CK7", "CK20": "CK20",
    "SMA": "SMA", "PHH3": "PHH3", "DAPI": "DAPI", "PAS": "PAS", "MASSON": "MASSON", "TRICHROME": "MASSON",
    "IHC": "IHC", "DAB": "IHC",
}  # fmt: skip
_ANTIBODY = re.compile(r"[^A-Z0-9]")
_PARTS = re.compile(r"[_\s]+|--")
_WORDS = re.compile(r"[\s,;/]+")
#: A block's label, such as A1 or 2B; anything longer may be an accession number and is not kept.
_BLOCK = re.compile(r"[A-Za-z]?\d{1,2}[A-Za-z]?|[A-Za-z]")

_HAEMATOXYLIN, _EOSIN = "12710003", "36879007"  # SNOMED CT substances, DICOM PS3.16 CID 8112
_USING = "424361007"  # "Using substance", PS3.16 TID 8003


def stain_of(path: str) -> str | None:
    """The stain that a file's name states after its first part, or None.

    A stain that is not the usual one wins: ``A1_KI67_2`` is no haematoxylin and eosin.

    >>> stain_of("slides/MRN7/A1_Ki-67.svs"), stain_of("MRN7__A1_H&E.svs"), stain_of("MRN7__A1.svs")
    ('KI67', 'HE', None)
    """
    parts = _own_parts(path)
    found = [name for part in parts[0 if "__" in path else 1 :] if (name := _known(part))]
    return next((name for name in found if name != USUAL), USUAL if found else None)


def block_of(path: str) -> str | None:
    """The block's label in a file's name, such as ``A1``; None where there is none.

    What stands before ``__``, and what equals the folder's name, is the patient's and never kept.

    >>> block_of("slides/MRN7/A1_Ki-67.svs"), block_of("MRN7__A1.svs"), block_of("slides/P12/P12_HE.svs")
    ('A1', 'A1', None)
    """
    folder = PurePosixPath(path).parent.name
    parts = [part for part in _own_parts(path) if part != folder and not _known(part)]
    return parts[0] if parts and _BLOCK.fullmatch(parts[0]) else None


def _own_parts(path: str) -> list[str]:
    """The parts of a file's name that are not the patient's."""
    stem = PurePosixPath(path).stem
    return [part for part in _PARTS.split(stem.partition("__")[2] if "__" in stem else stem) if part]


def _known(part: str) -> str | None:
    """The stain that a part of a name states, as a whole or between hyphens."""
    word = part.upper().replace("H&E", "HE")
    pieces = [word, *word.split("-")]
    found = [_NAMES.get(_ANTIBODY.sub("", piece).removeprefix("ANTI")) for piece in pieces]
    return next((name for name in found if name), None)


def stain_of_dicom(dataset: Dataset) -> str | None:
    """The stain that the specimen's preparation states (PS3.16 TID 8003), or None."""
    found, unknown = set(), False
    for item in _substances(dataset):
        code, words = str(item.get("CodeValue", "")), str(item.get("CodeMeaning", "")).upper()
        names = {name for part in _WORDS.split(words) if (name := _known(part)) and name != USUAL}
        found |= names | {code} & {_HAEMATOXYLIN, _EOSIN}
        unknown |= not names and code not in (_HAEMATOXYLIN, _EOSIN)
    stains = sorted(found - {_HAEMATOXYLIN, _EOSIN})
    if stains or unknown:
        return stains[0] if stains else UNKNOWN
    return USUAL if {_HAEMATOXYLIN, _EOSIN} <= found else None


def _substances(dataset: Dataset) -> Iterator[Dataset]:
    for specimen in dataset.get("SpecimenDescriptionSequence", []):
        for step in specimen.get("SpecimenPreparationSequence", []):
            for item in step.get("SpecimenPreparationStepContentItemSequence", []):
                concept = item.get("ConceptNameCodeSequence", [])
                if concept and str(concept[0].get("CodeValue", "")) == _USING:
                    yield from item.get("ConceptCodeSequence", [])
