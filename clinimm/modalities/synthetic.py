"""Images that were generated say so in the file; here is how that is written and read.

Three marks are known: Synthetic Data (0008,001C) of DICOM (PS3.3 C.12.1.1.10), a Contributing
Equipment whose purpose is "Synthesizing Equipment" (109100, PS3.16 CID 7005), and one line of text that fits
into any comment: the name of the form and a JSON object. IPTC's term for generated media counts too.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clinimm.core.errors import InputRejected
from clinimm.modalities.dicom_header import DicomHeader, sequence_items

FORM = "clinimm.synthetic/1"
#: What slides of the simulated hospital state as their software: they are of nobody, and of no model either.
SIMULATOR = "clinimm simulate"
SYNTHETIC_DATA = 0x0008001C
CONTRIBUTING_EQUIPMENT, PURPOSE, CODE_VALUE = 0x0018A001, 0x0040A170, 0x00080100
SYNTHESIZING_EQUIPMENT = "109100"
#: Digital source type of wholly or partly generated media (IPTC photo metadata, cv.iptc.org).
_IPTC = re.compile(r"(?:composite(?:With)?T|t)rainedAlgorithmicMedia")
#: Text elements of DICOM in which the line of text may stand.
_DICOM_TEXTS = (0x00082111, 0x00204000)  # Derivation Description, Image Comments
_LONGEST_MARK = 4096


@dataclass(frozen=True)
class Provenance:
    """What a generated image says about its making.

    Attributes:
        stain: which stain it imitates; None where it does not say.
        model_digest: of the model that made it.
        source_digest: of the image that it was made from.
        generator: name and version of the software.
        marks: where the file says so, in words for people.
    """

    stain: str | None = None
    model_digest: str | None = None
    source_digest: str | None = None
    generator: str | None = None
    marks: tuple[str, ...] = ()

    @property
    def mark(self) -> str:
        """The line of text that marks anything derived from the image, one line, ASCII."""
        value = {
            "synthetic": True,
            "stain": self.stain,
            "model": self.model_digest,
            "source": self.source_digest,
            "generator": self.generator,
        }
        return f"{FORM} {json.dumps(value, separators=(',', ':'))}"


def read_mark(text: str, where: str) -> Provenance | None:
    """The provenance in a comment, a description or XML; None where there is no mark.

    A mark that was cut short still marks.

    Args:
        text: any text; entities of XML are resolved.
        where: what the text was, in words.

    >>> read_mark(Provenance(stain="KI67").mark, "comment").stain
    'KI67'
    """
    start = text.find(FORM)
    if start < 0:
        return Provenance(marks=(where,)) if _IPTC.search(text) else None
    value: Mapping[str, Any] = {}
    rest = html.unescape(text[start + len(FORM) : start + len(FORM) + _LONGEST_MARK]).lstrip()
    if rest.startswith("{"):
        try:
            value, _ = json.JSONDecoder().raw_decode(rest)
        except ValueError:
            value = {}  # cut short: that it is marked counts, whatever it says
    names = ("stain", "model", "source", "generator")
    stain, model, source, generator = (_word(value.get(name)) for name in names)
    return Provenance(stain, model, source, generator, (where,))


def flags_of(found: Provenance | None, allowed: bool) -> tuple[str, ...]:
    """The flags of an image that may have been generated (law 6: it is no image of a patient).

    Args:
        found: what its file says.
        allowed: ``ingest.allow_synthetic_images``.

    Raises:
        InputRejected: ``synthetic-image``, it was generated, and such images are not allowed.
    """
    if found is None:
        return ()
    if not allowed:
        raise InputRejected(
            "synthetic-image",
            f"the image says that it was generated ({', '.join(found.marks) or 'marked'})",
            "leave it out, or set ingest.allow_synthetic_images where that is meant",
        )
    return ("synthetic",)


def read_dicom_marks(header: DicomHeader) -> Provenance | None:
    """The provenance of a DICOM image; None where nothing marks it as generated.

    Raises:
        InputRejected: as ``dicom_header.sequence_items``.
    """
    marks = []
    if (header.code(SYNTHETIC_DATA) or "").upper() == "YES":
        marks.append("Synthetic Data (0008,001C) YES")
    if any(_synthesizes(item) for item in sequence_items(header, CONTRIBUTING_EQUIPMENT)):
        marks.append("Contributing Equipment: Synthesizing Equipment (109100)")
    said = [read_mark(header.words(tag) or "", "description") for tag in _DICOM_TEXTS]
    found = next((one for one in said if one is not None), None)
    if found is not None:
        marks += found.marks
    if not marks:
        return None
    found = found or Provenance()
    return Provenance(found.stain, found.model_digest, found.source_digest, found.generator, tuple(marks))


def _synthesizes(equipment: DicomHeader) -> bool:
    return any(item.code(CODE_VALUE) == SYNTHESIZING_EQUIPMENT for item in sequence_items(equipment, PURPOSE))


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and len(value) <= 256 else None
