"""What a stained slide takes over from a source in DICOM: its place on the glass, and its origin."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinimm.modalities.dicom_header import WHOLE_SLIDE, looks_like_dicom

_HEAD_BYTES = 512
#: Attributes of the Patient and General Study modules that are carried over when that is asked for.
PATIENT = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex")
STUDY = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyDescription",
)
SPECIMEN = (
    "ContainerIdentifier",
    "IssuerOfTheContainerIdentifierSequence",
    "ContainerTypeCodeSequence",
    "SpecimenDescriptionSequence",
    "AcquisitionDateTime",
)


@dataclass(frozen=True)
class DicomSource:
    """A source slide's headers.

    Attributes:
        base: the header of its finest level, a ``pydicom.Dataset`` without pixels.
        instances: SOP Class UID and SOP Instance UID of each of its volume levels, finest first.
        files: of the same series, sorted.
    """

    base: Any
    instances: tuple[tuple[str, str], ...]
    files: tuple[Path, ...]

    def value(self, keyword: str) -> Any:
        """An attribute of the finest level; None where it is absent or empty."""
        found = self.base.get(keyword)
        return None if found is None or found == "" else found


def read_dicom_source(path: Path) -> DicomSource | None:
    """The headers of a DICOM slide, given one of its files or their folder; None where it is none."""
    headers = list(_headers(path))
    if not headers:
        return None
    series = {str(one.SeriesInstanceUID) for _, one in headers if path.is_dir() or _ == path}
    headers = [(file, one) for file, one in headers if str(one.SeriesInstanceUID) in series]
    volume = [one for _, one in headers if "VOLUME" in one.get("ImageType", [])]
    volume.sort(key=lambda one: -int(one.get("TotalPixelMatrixColumns", 0)))
    if not volume:
        return None
    instances = tuple((str(one.SOPClassUID), str(one.SOPInstanceUID)) for one in volume)
    return DicomSource(volume[0], instances, tuple(sorted(file for file, _ in headers)))


def source_files(path: Path) -> list[Path]:
    """Every file that a slide is made of, sorted.

    DICOM slides have one file a level, MIRAX slides a folder of the file's name; all others are one file.
    """
    found = read_dicom_source(path)
    if found is not None:
        return list(found.files)
    if path.is_dir():
        return sorted(one for one in path.rglob("*") if one.is_file())
    beside = path.with_suffix("") if path.suffix.lower() == ".mrxs" else None
    more = [] if beside is None else [one for one in beside.rglob("*") if one.is_file()]
    return sorted([path, *more])


def source_digest(path: Path) -> str:
    """SHA-256 over the digests of the files that a slide is made of, whatever their names."""
    from clinimm.core.record import digest_bytes, digest_file

    digests = sorted(digest_file(file) for file in source_files(path))
    return digests[0] if len(digests) == 1 else digest_bytes("".join(digests).encode("ascii"))


def _headers(path: Path) -> list[tuple[Path, Any]]:
    if path.is_file() and not _is_dicom(path):
        return []
    import pydicom

    folder = path if path.is_dir() else path.parent
    found = []
    for file in sorted(one for one in folder.iterdir() if one.is_file() and _is_dicom(one)):
        header = pydicom.dcmread(file, stop_before_pixels=True)
        if header.get("SOPClassUID") == WHOLE_SLIDE and "SeriesInstanceUID" in header:
            found.append((file, header))
    return found


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return looks_like_dicom(path.name, stream.read(_HEAD_BYTES))
