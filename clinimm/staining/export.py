"""A finished stained slide into its file: signed, marked, with the manifest beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clinimm.core.record import digest_json
from clinimm.staining.dicom_attributes import DicomFacts
from clinimm.staining.dicom_source import DicomSource
from clinimm.staining.provenance import Origin, signed_manifest, write_beside
from clinimm.staining.whole_slide import StainedSlide
from clinimm.staining.write_dicom import write_dicom
from clinimm.staining.write_ome import write_ome

Format = Literal["ome", "dicom"]


@dataclass(frozen=True)
class Identity:
    """Whose slide a DICOM output says that it is.

    Attributes:
        patient_id: a pseudonym; stands in name and identifier.
        keep: whether the source's own patient and study attributes are carried over instead.
        source: the source's headers where it is DICOM.
    """

    patient_id: str
    keep: bool = False
    source: DicomSource | None = None


def export(
    stained: StainedSlide,
    out: Path,
    form: Format,
    origin: Origin,
    identity: Identity,
    key_file: Path | None = None,
) -> Path:
    """Write a stained slide and its manifest; gives the manifest's path.

    Args:
        out: a file of OME-TIFF, or the folder of DICOM files.
        form: which of the two.
        origin: what it was made of.
        identity: whose it is; OME-TIFF names nobody.
        key_file: Ed25519 private key (PEM); None is this user's own.
    """
    manifest = signed_manifest(stained, origin, key_file)
    mark = origin.provenance(stained.settings.stain).mark
    out.parent.mkdir(parents=True, exist_ok=True)
    if form == "ome":
        write_ome(stained, out, _facts(stained, origin), mark, manifest)
    else:
        facts = DicomFacts(
            stain=stained.settings.stain,
            mark=mark,
            binding=digest_json(stained.pyramid.spool.binding),
            patient_id=identity.patient_id,
            keep_identity=identity.keep,
            source=identity.source,
            made=origin.made,
            manifest=manifest,
        )
        write_dicom(stained, out, facts)
    return write_beside(out, manifest)


def _facts(stained: StainedSlide, origin: Origin) -> dict[str, str]:
    return {
        "SyntheticData": "YES",
        "Stain imitated": stained.settings.stain,
        "Model (SHA-256)": origin.model_digest,
        "Source (SHA-256)": origin.source_digest,
        "Made": origin.made.isoformat(timespec="seconds"),
        "Use": "research only",
        "Share of glass, not run": f"{stained.glass_share:.4f}",
        "Share refused": f"{stained.refused_share:.4f}",
    }
