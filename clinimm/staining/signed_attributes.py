"""Which attributes of a generated file its signature covers besides the pixels, group by group.

A file that is moved to another patient or study, or out of its frame of reference, keeps every pixel. So
the manifest holds a digest of each group of attributes, salted, for they may identify. The pixel spacing
needs none: the manifest states it, and every place in which a file says it is compared with that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from xml.sax.saxutils import escape

from clinimm.core.record import digest_bytes
from clinimm.staining.dicom_source import PATIENT, SPECIMEN, STUDY

#: Group -> text that stands for its values, the same before writing and after reading.
Groups = Mapping[str, str]

#: What the map of expected error is called beside the levels.
UNCERTAINTY = "uncertainty"

#: Groups of DICOM attributes and what they are called in a finding.
_DICOM: Mapping[str, tuple[str, ...]] = {
    "patient": (*PATIENT, "PatientIdentityRemoved"),
    "study": STUDY,
    "series": ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesDescription", "Modality"),
    "specimen": SPECIMEN,
    "frame of reference": (
        "FrameOfReferenceUID",
        "PositionReferenceIndicator",
        "ImageOrientationSlide",
        "TotalPixelMatrixOriginSequence",
    ),
    "derivation": (
        "DerivationDescription",
        "ImageComments",
        "ContentQualification",
        "SourceImageSequence",
        "ContributingEquipmentSequence",
    ),
}


def dicom_groups(header: Any) -> dict[str, str]:
    """The groups of a DICOM instance.

    Args:
        header: a ``pydicom.Dataset``, built or read.
    """
    return {group: json.dumps(_values(header, keywords)) for group, keywords in _DICOM.items()}


def ome_groups(description: str, manifest: str) -> dict[str, str]:
    """The groups of an OME-TIFF: its OME-XML, without the manifest that stands in it."""
    return {"description": description.replace(escape(manifest), "") if manifest else description}


def digests(files: Mapping[str, Groups], salt: str) -> dict[str, dict[str, str]]:
    """The salted digest of each group of each file."""
    return {
        name: {group: digest_bytes(f"{salt}|{group}|{text}".encode()) for group, text in groups.items()}
        for name, groups in files.items()
    }


def changed(
    signed: Mapping[str, Mapping[str, str]], salt: str, found: Mapping[str, Groups], names: Mapping[str, str]
) -> tuple[str, ...]:
    """A sentence on every group that is not as it was signed; files that are missing are said elsewhere.

    Args:
        signed: what ``digests`` gave when the file was made.
        salt: of that time.
        found: what is read from the file now.
        names: what the parts of the file are called in a sentence.
    """
    now = digests(found, salt)
    where: dict[str, list[str]] = {}
    for name in (one for one in dict.fromkeys([*names, *signed]) if one in signed and one in now):
        for group, digest in signed[name].items():
            if now[name].get(group) != digest:
                where.setdefault(group, []).append(names.get(name, name))
    return tuple(f"the {group} was changed in {', '.join(parts)}" for group, parts in where.items())


def _values(header: Any, keywords: Iterable[str]) -> list[list[Any]]:
    """Keyword and value of what is there; an empty attribute counts as an absent one."""
    values = ((keyword, header.get(keyword)) for keyword in keywords)
    return [[keyword, _plain(value)] for keyword, value in values if not _is_empty(value)]


def _plain(value: Any) -> Any:
    """A value as text, alike before it is written and after it is read."""
    from pydicom import Dataset
    from pydicom.multival import MultiValue

    if isinstance(value, Dataset):
        return [[str(one.tag), _plain(one.value)] for one in value if not _is_empty(one.value)]
    if isinstance(value, (MultiValue, list, tuple)):
        return [_plain(one) for one in value]
    return f"{float(value):.6g}" if isinstance(value, float) else str(value).strip()


def _is_empty(value: Any) -> bool:
    return value is None or str(value) in ("", "[]")
