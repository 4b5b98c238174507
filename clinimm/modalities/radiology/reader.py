"""Radiology files become facts: one image instance, one fact. Headers only; pixels stay where they are.

Photographs (dermoscopy, endoscopy stills) are images too and are read here. Whole slides are for
``pathology``; reports, segmentations, plans and dose are refused by name.
"""

from __future__ import annotations

import mmap
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

from clinimm.core.errors import InputRejected
from clinimm.modalities.dicom_header import (
    WHOLE_SLIDE,
    Buffer,
    DicomHeader,
    looks_like_dicom,
    media_storage,
    read_header,
)
from clinimm.modalities.dicom_values import (
    age_years,
    available_at,
    check_size,
    code_string,
    identity,
    object_uid,
    zone_of,
)
from clinimm.modalities.radiology.checks import check_pixels
from clinimm.modalities.radiology.geometry import Geometry, read_geometry
from clinimm.modalities.synthetic import flags_of, read_dicom_marks
from clinimm.modality import Fact, Identity, Scan, rules_of

if TYPE_CHECKING:
    from clinimm.sources.base import Source, SourceFile

_STORAGE = "1.2.840.10008.5.1.4.1.1."
#: SOP classes without an image of the patient, by the rest of their UID; a trailing dot is a family.
_NOT_IMAGES = {
    "4.2": "spectroscopy",
    "9.": "a waveform",
    "11.": "a presentation state",
    "30": "a parametric map",
    "66": "raw data or a registration",
    "66.": "a segmentation or a registration",
    "67": "a real world value mapping",
    "68.": "a surface scan",
    "77.1.1.1": "a video",
    "77.1.2.1": "a video",
    "77.1.4.1": "a video",
    "78.": "an eye measurement",
    "79.": "an eye measurement report",
    "80.": "an eye measurement report",
    "88.": "a structured report or key object selection",
    "90.": "content assessment",
    "91.": "a microscopy annotation",
    "104.": "an encapsulated document",
    "200.": "a protocol",
    "481.2": "a radiotherapy dose",
    "481.3": "a radiotherapy structure set",
    "481.": "a radiotherapy plan or record",
}
_RT_IMAGES = frozenset({_STORAGE + "481.1", _STORAGE + "481.23"})
_DIRECTORY = "1.2.840.10008.1.3.10"
_MAPPED_BYTES = 64 << 20
_FUTURE = timedelta(days=1)


def accepts(path: str, head: bytes) -> bool:
    """Whether a file is DICOM and not a whole slide, from its path and first 512 bytes."""
    return looks_like_dicom(path, head) and media_storage(head)[0] != WHOLE_SLIDE


def scan(source: Source, file: SourceFile) -> Scan:
    """Read one DICOM file by the source's rules (zone of its clocks, largest size).

    Raises:
        InputRejected: the file is refused; ``code`` names the reason.
        ConfigError: ``ingest.timezone`` is no zone.
    """
    rules = rules_of(source)
    zone = zone_of(rules.timezone)
    check_size(file, rules.max_file_mib)
    if file.size < _MAPPED_BYTES:
        who, fact = read_image_fact(
            source.read(file.path), zone, source.site, synthetic=rules.allow_synthetic_images
        )
        return Scan(identities=(who,), facts=(fact,))
    # Not closed by hand: arrays in the frames of a refusal may still point into it.
    with source.local_path(file.path).open("rb") as stream:
        data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    who, fact = read_image_fact(data, zone, source.site, synthetic=rules.allow_synthetic_images)
    return Scan(identities=(who,), facts=(fact,))


def read_image_fact(
    data: Buffer,
    zone: tzinfo = UTC,
    site: str | None = None,
    now: datetime | None = None,
    synthetic: bool = False,
) -> tuple[Identity, Fact]:
    """The patient and the fact of one DICOM image.

    Args:
        data: the file's bytes.
        zone: where the scanner's clock stood, if the file does not say.
        site: site of the source, if the file names no institution.
        now: the present, for the flag ``study_in_future``.
        synthetic: whether an image that says that it was generated is flagged instead of refused.

    Raises:
        InputRejected: the file is refused; ``code`` names the reason.
    """
    header = read_header(data)
    _check_is_image(header)
    geometry = read_geometry(header)
    who = identity(header)
    time = available_at(header, zone)
    age, age_flag = age_years(header.code(0x00101010))
    flags = [*geometry.flags, *check_pixels(header, geometry), *_header_flags(header)]
    flags += flags_of(read_dicom_marks(header), synthetic)
    if age_flag:
        flags.append(age_flag)
    if time > (now or datetime.now(UTC)) + _FUTURE:
        flags.append("study_in_future")
    modality = code_string(header, 0x00080060)
    attributes, leaked = _without_identifiers(_attributes(header, geometry, modality, site), who)
    if leaked:
        flags.append("identifier_removed")
    fact = Fact(
        patient=who.keys[0],
        time=time,
        code=f"DICOM//{modality or 'OT'}",
        modality="radiology",
        category=modality or "OT",
        flags=tuple(sorted(set(flags))),
        attributes=attributes,
        age_years=age,
        instance=object_uid(header),
        is_file=True,
    )
    return who, fact


def _check_is_image(header: DicomHeader) -> None:
    sop_class = object_uid(header, 0x00080016) or object_uid(header, 0x00020002) or ""
    if sop_class == WHOLE_SLIDE:
        raise InputRejected(
            "whole-slide",
            "the object is a whole slide without the file header that says so",
            "export slides as DICOM files with their file meta information",
        )
    kind = _kind_of_other(sop_class)
    if kind or header.elements.keys() & {0x7FE00008, 0x7FE00009}:
        raise InputRejected(
            "not-an-image",
            f"the object is {kind or 'a map of computed values'}, not an image",
            "nothing to do, unless it is expected as an image: then export the image itself",
        )


def _kind_of_other(sop_class: str) -> str | None:
    if sop_class == _DIRECTORY:
        return "a directory of files"
    if sop_class in _RT_IMAGES or not sop_class.startswith(_STORAGE):
        return None
    rest = sop_class.removeprefix(_STORAGE)
    if rest in _NOT_IMAGES:
        return _NOT_IMAGES[rest]
    families = (kind for prefix, kind in _NOT_IMAGES.items() if prefix[-1] == "." and rest.startswith(prefix))
    return next(families, None)


def _header_flags(header: DicomHeader) -> list[str]:
    flags = []
    if not header.charset_known:
        flags.append("charset_unknown")
    if code_string(header, 0x00080060) is None:
        flags.append("modality_unknown")
    if object_uid(header) is None:
        flags.append("no_instance_uid")
    if header.code(0x00280301) == "YES":
        flags.append("burned_in_annotation")
    if _window_is_useless(header):
        flags.append("window_zero")
    return flags


def _window_is_useless(header: DicomHeader) -> bool:
    try:
        width = header.decimals(0x00281051)
    except InputRejected:
        return True
    return width is not None and width[0] <= 0


def _attributes(
    header: DicomHeader, geometry: Geometry, modality: str | None, site: str | None
) -> dict[str, Any]:
    device = [part for part in (header.words(0x00080070), header.words(0x00081090)) if part]
    found = {
        "site": header.words(0x00080080) or site,
        "device": " ".join(device) or None,
        "view": code_string(header, 0x00185101),
        "photometric": geometry.photometric,
        "rows": geometry.rows,
        "columns": geometry.columns,
        "frames": geometry.frames,
        "spacing_mm": list(geometry.spacing_mm) if geometry.spacing_mm else None,
        "dicom_modality": modality,
        "body_part": code_string(header, 0x00180015),
        "laterality": code_string(header, 0x00200062) or code_string(header, 0x00200060),
        "transfer_syntax": header.transfer_syntax,
    }
    return {name: value for name, value in found.items() if value is not None}


def _without_identifiers(attributes: dict[str, Any], who: Identity) -> tuple[dict[str, Any], bool]:
    """Drop a text in which somebody typed the patient's identifier, birth date or names."""
    secrets = [who.keys[0][1], *(name for name in who.names if len(name) > 3)]
    if who.birth_date:
        secrets += [who.birth_date, who.birth_date.replace("-", "")]
    lowered = [secret.casefold() for secret in secrets if len(secret) > 3]

    def tells(value: Any) -> bool:
        return isinstance(value, str) and any(secret in value.casefold() for secret in lowered)

    kept = {name: value for name, value in attributes.items() if not tells(value)}
    return kept, len(kept) < len(attributes)
