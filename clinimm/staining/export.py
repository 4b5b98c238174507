"""A finished stained slide into its file: signed, marked, with the manifest beside it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from clinimm.core.record import digest_json
from clinimm.staining.dicom_attributes import DicomFacts
from clinimm.staining.dicom_source import DicomSource
from clinimm.staining.new_uids import NewUids
from clinimm.staining.replace_output import check_replaceable
from clinimm.staining.sign_manifest import Origin, manifest_beside, signed_manifest, write_beside
from clinimm.staining.signed_attributes import dicom_groups, layout_to_write, ome_groups
from clinimm.staining.whole_slide import StainedSlide
from clinimm.staining.write_dicom import dicom_headers, write_dicom
from clinimm.staining.write_ome import ome_xml, write_ome

Format = Literal["ome", "dicom"]


@dataclass(frozen=True)
class Identity:
    """Whose slide a DICOM output says that it is.

    Attributes:
        patient_id: a pseudonym; stands in name and identifier.
        keep: whether the source's own patient and study attributes are carried over instead.
        source: the source's headers where it is DICOM.
        uids: makes the file's UIDs, and those that stand for the source's.
    """

    patient_id: str
    keep: bool = False
    source: DicomSource | None = None
    uids: NewUids = field(default_factory=NewUids)


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

    Raises:
        ConfigError: at ``out`` lies what this program did not make.
    """
    check_replaceable(out, manifest_beside(out))
    mark = origin.provenance(stained.settings.stain).mark
    out.parent.mkdir(parents=True, exist_ok=True)
    if form == "ome":
        facts = _facts(stained, origin)
        groups = {
            "the file": {
                **ome_groups(ome_xml(stained, facts, mark, ""), ""),
                "layout": layout_to_write(stained),
            }
        }
        manifest = signed_manifest(stained, origin, groups, key_file)
        write_ome(stained, out, facts, mark, manifest)
    else:
        unsigned = _dicom_facts(stained, origin, identity, mark)
        parts = {name: dicom_groups(header) for name, header in dicom_headers(stained, unsigned).items()}
        manifest = signed_manifest(stained, origin, parts, key_file)
        write_dicom(stained, out, replace(unsigned, manifest=manifest))
    return write_beside(out, manifest)


def _dicom_facts(stained: StainedSlide, origin: Origin, identity: Identity, mark: str) -> DicomFacts:
    return DicomFacts(
        stain=stained.settings.stain,
        mark=mark,
        cautions=origin.cautions.sentences,
        binding=digest_json(stained.pyramid.spool.binding),
        uids=identity.uids,
        patient_id=identity.patient_id,
        keep_identity=identity.keep,
        source=identity.source,
        made=origin.made,
        manifest="",
    )


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
        **{f"Caution {n}": words for n, words in enumerate(origin.cautions.sentences, start=1)},
    }
