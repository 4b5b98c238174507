"""The signed manifest of a virtual stain: who made it from what, and digests of all that it binds.

The manifest binds the pixels of every level, the source, the model, the settings and what was
refused; the pixel spacing; and every attribute of DICOM but what archives add, the description and layout
of OME-TIFF. It stands inside the file and, for people, beside it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from clinimm.core.record import digest_bytes, write_text
from clinimm.core.sign import canonical, sign
from clinimm.modalities.synthetic import Provenance
from clinimm.provenance import code_version
from clinimm.staining.cautions import Cautions
from clinimm.staining.label_mark import label_text
from clinimm.staining.signed_attributes import Groups, digests
from clinimm.staining.whole_slide import CELL_PIXELS, StainedSlide
from clinimm.staining.write_ome import uncertainty_values

SCHEMA = "clinimm.synthetic-manifest/3"


@dataclass(frozen=True)
class Origin:
    """What a manifest says besides the pixels.

    Attributes:
        source_digest, model_digest: SHA-256.
        source_synthetic: whether the source was generated itself.
        patient: digests of the record that conditioned the stain and of what refuses.
        made: UTC.
        cautions: what a reader must know of the run, its safety case and the record.
    """

    source_digest: str
    model_digest: str
    source_synthetic: bool
    patient: Mapping[str, Any]
    made: datetime
    cautions: Cautions = field(default_factory=Cautions)

    def provenance(self, stain: str) -> Provenance:
        """The short form, which marks everything that is derived from the image."""
        return Provenance(stain, self.model_digest, self.source_digest, f"clinimm {code_version()}")


def signed_manifest(
    stained: StainedSlide, origin: Origin, attributes: Mapping[str, Groups], key_file: Path | None = None
) -> str:
    """The manifest of a stained slide with its signature, as JSON.

    Args:
        stained: finished.
        origin: what it was made of.
        attributes: of each part of the file that will hold it; see ``signed_attributes.py``.
        key_file: Ed25519 private key (PEM); None is this user's own.
    """
    pyramid, salt = stained.pyramid, secrets.token_hex(16)
    body = {
        "schema": SCHEMA,
        "synthetic": True,
        "stain": stained.settings.stain,
        "label": label_text(stained.settings.stain),
        "made": origin.made.isoformat(timespec="seconds"),
        "generator": f"clinimm {code_version()}",
        "model": origin.model_digest,
        "source": {"digest": origin.source_digest, "synthetic": origin.source_synthetic},
        "patient": dict(origin.patient),
        "settings": stained.settings.to_json(),
        "micrometres_per_pixel": list(stained.um),
        "levels": [
            {"columns": one.width, "rows": one.height, "digest": pyramid.digest(one)}
            for one in pyramid.levels
        ],
        "uncertainty": {
            "cell_pixels": CELL_PIXELS,
            "calibrated": stained.calibrated,
            "digest": digest_bytes(uncertainty_values(stained).astype("<u2").tobytes()),
        },
        "shares": {
            "glass": round(stained.glass_share, 6),
            "stained": round(stained.stained_share, 6),
            "refused": round(stained.refused_share, 6),
        },
        "refused_tiles": dict(stained.refused_tiles),
        "cautions": origin.cautions.to_json(),
        "attributes": {"salt": salt, "digests": digests(attributes, salt)},
    }
    signature = asdict(sign(canonical(body), key_file))
    return json.dumps({"manifest": body, "signature": signature}, sort_keys=True)


def manifest_beside(path: Path) -> Path:
    """Where the manifest of a file, or of a folder of DICOM files, lies beside it."""
    return path.with_name(f"{path.name}.provenance.json")


def write_beside(path: Path, manifest: str) -> Path:
    """Write the manifest beside the file, laid out for reading."""
    beside = manifest_beside(path)
    write_text(beside, json.dumps(json.loads(manifest), indent=1, sort_keys=True) + "\n")
    return beside
