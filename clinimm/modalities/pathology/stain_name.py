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
#: A block's label, such as A1 or 2B; anything longer may be an accession number and is not kept.
_BLOCK = re.compile(r"[A-Za-z]?\d{1,2}[A-Za-z]?|[A-Za-z]")

_HAEMATOXYLIN, _EOSIN = "12710003", "36879007"  # SNOMED CT substances, DICOM PS3.16 CID 8112
_USING = "424361007"  # "Using substance", PS3.16 TID 8003


def stain_of(path: str) -> str | None:
    """The stain that the last part of a file's name states, or None.

    >>> stain_of("slides/MRN7/A1_Ki-67.svs"), stain_of("MRN7__A1_H&E.svs"), stain_of("MRN7__A1.svs")
    ('KI67', 'HE', None)
    """
    parts = _PARTS.split(PurePosixPath(path).stem)
    last = parts[-1].upper().replace("H&E", "HE")
    return _NAMES.get(_ANTIBODY.sub("", last)) if len(parts) > 1 else None


def block_of(path: str) -> str | None:
    """The block's label in a file's name, such as ``A1``; None where there is none.

    >>> block_of("slides/MRN7/A1_Ki-67.svs"), block_of("MRN7__A1.svs"), block_of("slides/MRN7/slide.svs")
    ('A1', 'A1', None)
    """
    parts = _PARTS.split(PurePosixPath(path).stem)
    stated = parts[:-1] if stain_of(path) else parts
    return stated[-1] if stated and _BLOCK.fullmatch(stated[-1]) else None


def stain_of_dicom(dataset: Dataset) -> str | None:
    """The stain that the specimen's preparation states (PS3.16 TID 8003), or None."""
    codes, words = set(), []
    for item in _substances(dataset):
        codes.add(str(item.get("CodeValue", "")))
        words.append(str(item.get("CodeMeaning", "")).upper())
    for word in words:
        for part in re.split(r"[\s,;]+", word):
            name = _NAMES.get(_ANTIBODY.sub("", part))
            if name not in (None, USUAL):
                return name
    return USUAL if {_HAEMATOXYLIN, _EOSIN} <= codes else None


def _substances(dataset: Dataset) -> Iterator[Dataset]:
    for specimen in dataset.get("SpecimenDescriptionSequence", []):
        for step in specimen.get("SpecimenPreparationSequence", []):
            for item in step.get("SpecimenPreparationStepContentItemSequence", []):
                concept = item.get("ConceptNameCodeSequence", [])
                if concept and str(concept[0].get("CodeValue", "")) == _USING:
                    yield from item.get("ConceptCodeSequence", [])
