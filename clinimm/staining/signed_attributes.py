"""Which attributes of a generated file its signature covers besides the pixels, group by group.

A file that is moved to another patient or study, or whose map has another slope, keeps every pixel. So
the manifest holds a digest of each group of attributes, salted, for they may identify. Every attribute is
in a group, those that were added later too; only what ``_OF_ARCHIVES`` names, and private attributes at the
top of a data set, may differ. Of OME-TIFF the groups are the description, and every field of every picture.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast
from xml.sax.saxutils import escape

from clinimm.core.record import digest_bytes
from clinimm.modalities.pathology.tiff_directory import Directory, Tag, sub_directories
from clinimm.staining.dicom_source import PATIENT, SPECIMEN, STUDY
from clinimm.staining.plan import TILE_PIXELS

if TYPE_CHECKING:
    from clinimm.staining.whole_slide import StainedSlide

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
#: The group of every DICOM attribute that no other group names.
_OTHERS = "rest of the header"
#: What archives add or change as they store and hand out (PS3.3 C.12.1, PS3.4 C.6), and how pixels are
#: framed, which the digests of the frames cover. Values are compared as they read, not as they are encoded.
_OF_ARCHIVES = frozenset(
    {
        "SpecificCharacterSet",
        "InstanceAvailability",
        "RetrieveAETitle",
        "RetrieveLocationUID",
        "RetrieveURL",
        "StorageMediaFileSetID",
        "StorageMediaFileSetUID",
        "PixelData",
        "ExtendedOffsetTable",
        "ExtendedOffsetTableLengths",
        "DataSetTrailingPadding",
    }
)
#: TIFF fields that other comparisons cover: description, resolution, tiles, and where pictures below lie.
_COMPARED = frozenset(
    {
        Tag.DESCRIPTION,
        Tag.X_RESOLUTION,
        Tag.Y_RESOLUTION,
        Tag.RESOLUTION_UNIT,
        Tag.TILE_OFFSETS,
        Tag.TILE_COUNTS,
        Tag.SUB_IFDS,
    }
)
_REFERENCE_BLACK_WHITE = 532
_MOST_VALUES = 64
#: Fields of a level by its codec: compression, photometric interpretation, and what belongs to it.
_TIFF_CODECS: Mapping[str, Mapping[int, list[int]]] = {
    "jpeg": {
        Tag.COMPRESSION: [7],
        Tag.PHOTOMETRIC: [6],
        Tag.SUBSAMPLING: [2, 1],
        _REFERENCE_BLACK_WHITE: [0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1],
    },
    "deflate": {Tag.COMPRESSION: [8], Tag.PHOTOMETRIC: [2]},
}


def dicom_groups(header: Any) -> dict[str, str]:
    """The groups of a DICOM instance; the manifest itself stands in a private attribute.

    Args:
        header: a ``pydicom.Dataset``, built or read.
    """
    groups = {group: json.dumps(_values(header, keywords)) for group, keywords in _DICOM.items()}
    named = {keyword for keywords in _DICOM.values() for keyword in keywords} | _OF_ARCHIVES
    others = (one for one in header if one.keyword not in named and not one.tag.is_private)
    return {**groups, _OTHERS: json.dumps(_elements(one for one in others if one.tag.element))}


def ome_groups(description: str, manifest: str) -> dict[str, str]:
    """The groups of an OME-TIFF: its OME-XML, without the manifest that stands in it."""
    return {"description": description.replace(escape(manifest), "") if manifest else description}


def tiff_layout(directories: tuple[Directory, ...]) -> str:
    """Every field of every picture of a TIFF, and which pictures lie below which."""
    return json.dumps([[_fields(one), _below(one, directories)] for one in directories])


def layout_to_write(stained: StainedSlide) -> str:
    """What ``tiff_layout`` will give of the file that ``write_ome`` writes."""
    tile: dict[int, list[int]] = {Tag.TILE_WIDTH: [TILE_PIXELS], Tag.TILE_HEIGHT: [TILE_PIXELS]}
    colour: dict[int, list[int]] = {Tag.BITS: [8, 8, 8], Tag.SAMPLES: [3], Tag.PLANAR: [1], **tile}
    colour |= _TIFF_CODECS.get(stained.pyramid.codec.name, {})
    levels = stained.pyramid.levels
    pictures = [
        {**colour, Tag.SUBFILE_TYPE: [int(one.number > 0)], Tag.WIDTH: [one.width], Tag.HEIGHT: [one.height]}
        for one in levels
    ]
    rows, columns = stained.uncertainty.shape
    grey: dict[int, list[int]] = {
        Tag.BITS: [16],
        Tag.COMPRESSION: [8],
        Tag.PHOTOMETRIC: [1],
        Tag.SAMPLES: [1],
    }
    pictures.append({**tile, **grey, Tag.WIDTH: [columns], Tag.HEIGHT: [rows]})
    below = [list(range(1, len(levels))), *([] for _ in levels)]
    fields = [[[int(tag), str(one[tag])] for tag in sorted(one)] for one in pictures]
    return json.dumps([list(one) for one in zip(fields, below, strict=True)])


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


def _elements(elements: Iterable[Any]) -> list[list[Any]]:
    """Tag and exact value of what is there, and of what is there within it."""
    return [[str(one.tag), _exact(one.VR, one.value)] for one in elements if not _is_empty(one.value)]


def _exact(kind: str, value: Any) -> Any:
    """A value as text, alike before it is written and after it is read, with every digit of its type."""
    if kind == "SQ":
        return [_elements(one) for one in value]
    if isinstance(value, bytes):
        return digest_bytes(value)
    if not isinstance(value, str) and hasattr(value, "__iter__") and kind != "PN":
        listed = [_exact(kind, one) for one in value]
        return listed[0] if len(listed) == 1 else listed
    if kind == "FL":
        return struct.pack("<f", value).hex()
    return repr(float(value)) if kind in ("FD", "DS") else str(value).strip()


def _fields(directory: Directory) -> list[list[Any]]:
    codes = sorted(set(directory.fields) - _COMPARED)
    return [[int(code), _field(directory, code)] for code in codes]


def _field(directory: Directory, code: int) -> str:
    count = directory.fields[code].count
    # Nothing that is written has as many values as that; an added field is told by its being there.
    return str(directory.numbers(cast("Tag", code)).tolist()) if count <= _MOST_VALUES else f"{count} values"


def _below(directory: Directory, chain: tuple[Directory, ...]) -> list[int]:
    """Which pictures of the chain tag 330 names; -1 for one that is not in the chain."""
    places = {_place(one): number for number, one in enumerate(chain)}
    return [places.get(_place(one), -1) for one in sub_directories(directory)]


def _place(directory: Directory) -> tuple[tuple[int, int], ...]:
    # Values lie inside a directory or at an offset of their own, so equal positions are the same directory.
    return tuple((tag, field.position) for tag, field in directory.fields.items())


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
