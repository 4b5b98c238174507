"""Slides become facts: one slide, one fact. Only its header and size are read."""

from __future__ import annotations

import mmap
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from clinimm.core.errors import InputRejected
from clinimm.modalities.dicom_header import WHOLE_SLIDE, DicomHeader, media_storage, read_header
from clinimm.modalities.dicom_values import (
    available_at,
    check_size,
    identity,
    object_uid,
    parse_datetime,
    zone_of,
)
from clinimm.modalities.pathology.slide import Slide, SlideInfo
from clinimm.modalities.pathology.stain_name import USUAL, block_of, stain_of, stain_of_dicom
from clinimm.modalities.pathology.synthetic import is_synthetic
from clinimm.modalities.synthetic import flags_of, read_dicom_marks
from clinimm.modality import Fact, Identity, Scan, rules_of

if TYPE_CHECKING:
    from clinimm.sources.base import Source, SourceFile

_EXTENSIONS = (".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".bif", ".vms")
_CATEGORY = "SM"
#: A slide is more than one encoder tile wide; smaller pictures are thumbnails and photographs.
_SHORTEST_SIDE = 256
_FIRST_YEAR = 1990
_FUTURE = timedelta(days=1)
_SLIDES_FOLDER = "slides"
_SEPARATOR = "__"

#: Where each format writes when the slide was scanned, and how.
_TIMES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("aperio.Date", "aperio.Time"), "%m/%d/%y %H:%M:%S"),
    (("aperio.Date", "aperio.Time"), "%m/%d/%Y %H:%M:%S"),
    (("aperio.Date",), "%m/%d/%y"),
    (("aperio.Date",), "%m/%d/%Y"),
    (("tiff.DateTime",), "%Y:%m:%d %H:%M:%S"),
    (("hamamatsu.Created",), "%Y/%m/%d"),
    (("mirax.GENERAL.SLIDE_CREATIONDATETIME",), "%d/%m/%Y %H:%M:%S"),
    (("ventana.ScanDate",), "%Y-%m-%dT%H:%M:%S"),
)
_ISO_TIMES = ("leica.creation-date",)
_DICOM_TIMES = ("philips.DICOM_ACQUISITION_DATETIME",)
_APERIO_ZONE = re.compile(r"GMT([+-]\d{2})(\d{2})")
_DEVICES = (
    "aperio.ScanScope ID",
    "hamamatsu.Product",
    "leica.device-model",
    "mirax.GENERAL.SCANNER_HARDWARE_ID",
)


def accepts(path: str, head: bytes) -> bool:
    """Whether a file is a slide by its name, or a whole-slide DICOM file by its first 512 bytes."""
    return path.lower().endswith(_EXTENSIONS) or media_storage(head)[0] == WHOLE_SLIDE


def scan(source: Source, file: SourceFile) -> Scan:
    """Read one slide by the source's rules (zone of its clocks, largest size).

    Raises:
        InputRejected: the file is refused; ``code`` names the reason.
        ConfigError: ``ingest.timezone`` is no zone.
    """
    rules = rules_of(source)
    zone = zone_of(rules.timezone)
    check_size(file, rules.max_file_mib)
    path = source.local_path(file.path)
    if not file.path.lower().endswith(_EXTENSIONS):
        return _scan_dicom(source, path, zone, file.path)
    made = flags_of(is_synthetic(path), rules.allow_synthetic_images)
    identifier = patient_of(file.path)
    with Slide(path) as slide:
        info = slide.info
    _check_pixels(info)
    who = Identity(keys=((None, identifier),))
    named = Named(stain_of(file.path), block_of(file.path), made)
    fact = _fact(info, who, scanned_at(info.properties, zone), source.site, _instance(info), named)
    return Scan(identities=(who,), facts=(fact,))


def _scan_dicom(source: Source, path: Path, zone: tzinfo, name: str) -> Scan:
    """One fact for the finest level of a DICOM slide; its other files belong to the same slide."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        header = read_header(data)
        kind = _other_part(header)
        if kind:
            return Scan(dropped={kind: 1})
        who = identity(header)
        time = _dicom_time(header, zone)
        instance = object_uid(header)
        made = flags_of(read_dicom_marks(header), rules_of(source).allow_synthetic_images)
    with Slide(path) as slide:
        info = slide.info
    _check_pixels(info)
    named = Named(_dicom_stain(path) or stain_of(name), block_of(name), made)
    return Scan(identities=(who,), facts=(_fact(info, who, time, source.site, instance, named),))


def _dicom_stain(path: Path) -> str | None:
    import pydicom

    wanted = ["SpecimenDescriptionSequence"]
    return stain_of_dicom(pydicom.dcmread(path, stop_before_pixels=True, specific_tags=wanted))


def _other_part(header: DicomHeader) -> str | None:
    """What a file of a DICOM slide holds besides the finest level (PS3.3 C.8.12.4.1.1)."""
    image_type = [part.strip() for part in (header.code(0x00080008) or "").split("\\")]
    for part, kind in (
        ("LABEL", "slide_label"),
        ("OVERVIEW", "slide_overview"),
        ("THUMBNAIL", "slide_level"),
    ):
        if part in image_type:
            return kind
    return "slide_level" if "RESAMPLED" in image_type else None


def _dicom_time(header: DicomHeader, zone: tzinfo) -> datetime:
    """Acquisition DateTime (0008,002A), for content dates are those of a later conversion."""
    stated = header.code(0x0008002A)
    acquired = parse_datetime(stated, zone) if stated else None
    return acquired.astimezone(UTC) if acquired else available_at(header, zone)


@dataclass(frozen=True)
class Named:
    """What a slide's name or header says of its making; None where it does not.

    Attributes:
        stain, block: how it was stained, and of which block it was cut.
        flags: ``synthetic`` where it says that it was generated.
    """

    stain: str | None
    block: str | None
    flags: tuple[str, ...] = ()


def _fact(
    info: SlideInfo, who: Identity, time: datetime, site: str | None, instance: str | None, named: Named
) -> Fact:
    flags = list(named.flags)
    if info.mpp_um is None:
        flags.append("no_resolution")
    if time > datetime.now(UTC) + _FUTURE:
        flags.append("study_in_future")
    return Fact(
        patient=who.keys[0],
        time=time,
        code=f"SLIDE//{named.stain or USUAL}",
        modality="pathology",
        category=_CATEGORY,
        flags=tuple(flags),
        attributes=_attributes(info, site, named),
        instance=instance,
        is_file=True,
    )


def patient_of(path: str) -> str:
    """The patient identifier that a slide's path states.

    Either the folder under a ``slides`` folder, or the part of the file's name before ``__``.

    >>> patient_of("export/slides/MRN7/block_A.svs"), patient_of("MRN7__block_A.svs")
    ('MRN7', 'MRN7')

    Raises:
        InputRejected: ``no-patient``, neither is there; ``patient-conflict``, they differ.
    """
    parts = PurePosixPath(path).parts
    folders = [part.casefold() for part in parts[:-1]]
    folder = None
    if _SLIDES_FOLDER in folders[:-1]:
        folder = parts[folders.index(_SLIDES_FOLDER) + 1].strip()
    prefix, separator, _ = parts[-1].partition(_SEPARATOR)
    name = prefix.strip() if separator else None
    if folder and name and folder != name:
        raise InputRejected(
            "patient-conflict",
            "the slide's folder and its file name state different patients",
            "correct one of them",
        )
    found = folder or name
    if not found:
        raise InputRejected(
            "no-patient",
            "neither the folder nor the file name states a patient identifier",
            "put the slide at slides/PATIENT/FILE, or name it PATIENT__FILE",
        )
    return found


def scanned_at(properties: Mapping[str, str], zone: tzinfo) -> datetime:
    """When a slide was scanned, UTC; the end of the day where only the date is stated.

    Raises:
        InputRejected: ``no-time``, no known property holds a time.
    """
    if match := _APERIO_ZONE.fullmatch(properties.get("aperio.Time Zone", "")):
        zone = datetime.strptime(match[1] + match[2], "%z").tzinfo or zone
    for names, pattern in _TIMES:
        text = " ".join(properties.get(name, "").strip() for name in names)
        if found := _parsed(text, pattern):
            return found.replace(tzinfo=zone).astimezone(UTC)
    for name in _ISO_TIMES:
        if found := _parsed_iso(properties.get(name, ""), zone):
            return found
    for name in _DICOM_TIMES:
        if found := parse_datetime(properties.get(name, ""), zone):
            return found.astimezone(UTC)
    raise InputRejected(
        "no-time",
        "the slide states no time of scanning",
        "write TIFF DateTime (or Aperio Date and Time) into the file, or export it as DICOM",
    )


def _parsed(text: str, pattern: str) -> datetime | None:
    try:
        found = datetime.strptime(text, pattern)
    except ValueError:
        return None
    if found.year < _FIRST_YEAR:
        return None
    return found if "%H" in pattern else found.replace(hour=23, minute=59, second=59)


def _parsed_iso(text: str, zone: tzinfo) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    if found.year < _FIRST_YEAR:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)


def _check_pixels(info: SlideInfo) -> None:
    if min(info.width, info.height) < _SHORTEST_SIDE:
        raise InputRejected(
            "not-a-slide",
            f"the picture has {info.width} x {info.height} pixels, less than a slide",
            "leave it out, or export the slide at full resolution",
        )


def _attributes(info: SlideInfo, site: str | None, named: Named) -> dict[str, Any]:
    model = next((info.properties[name] for name in _DEVICES if info.properties.get(name)), None)
    found = {
        "site": info.properties.get("dicom.InstitutionName") or site,
        "device": " ".join(part for part in (info.vendor, model) if part),
        "dicom_modality": _CATEGORY,
        "mpp_um": info.mpp_um,
        "objective_power": info.properties.get("openslide.objective-power"),
        "rows": info.height,
        "columns": info.width,
        "levels": len(info.levels),
        "block": named.block,
        "stain_stated": named.stain is not None,
    }
    return {name: value for name, value in found.items() if value}


def _instance(info: SlideInfo) -> str | None:
    """A digest of the slide's coarsest level, by which copies are found."""
    return f"slide:{info.fingerprint}" if info.fingerprint else None
