"""Whether a file is still what was signed, and who made it from what.

``sign_manifest.py`` says what the manifest binds. A signature tells that nothing changed since; only a key
that somebody vouches for tells who signed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from clinimm.core.errors import InputRejected, IntegrityError
from clinimm.core.sign import Signature, canonical, check, is_whole
from clinimm.modalities.pathology.synthetic import is_synthetic
from clinimm.modalities.synthetic import Provenance
from clinimm.staining.generated_file import FoundLevel, GeneratedFile, Spacing, read_generated
from clinimm.staining.manifest_form import form_fault
from clinimm.staining.plan import size_name
from clinimm.staining.sign_manifest import SCHEMA, Origin, manifest_beside, signed_manifest, write_beside
from clinimm.staining.signed_attributes import UNCERTAINTY, changed

__all__ = [
    "Origin",
    "Provenance",
    "State",
    "Verdict",
    "is_synthetic",
    "manifest_beside",
    "signed_manifest",
    "verify_file",
    "write_beside",
]

#: Forms before, and what may be changed in a file without being found.
_OLDER = {
    "clinimm.synthetic-manifest/1": "it covers neither patient, study and series nor the description",
    "clinimm.synthetic-manifest/2": "it covers neither all attributes of DICOM nor the layout of TIFF",
}
_SPACING_TOLERANCE = 1e-5  # share; formats keep seven digits and more


class State(Enum):
    """What is known of a file; the value is the exit code of ``clinimm provenance verify``."""

    INTACT = 0
    ALTERED = 2
    UNKNOWN = 3


@dataclass(frozen=True)
class Verdict:
    """What ``verify_file`` found.

    Attributes:
        state: intact and signed by a known key; altered; or nobody can say.
        provenance: what the manifest, else the file's marks say of its making.
        key_id: of the key that signed; None without a signature.
        findings: sentences for people, the decisive ones first.
        manifest: the signed body; None where there is none that is whole.
        checked: which series of a DICOM folder was checked; empty of a TIFF.
    """

    state: State
    provenance: Provenance | None
    key_id: str | None
    findings: tuple[str, ...]
    manifest: Mapping[str, Any] | None = None
    checked: str = ""


def verify_file(path: Path, key: Path | None = None) -> Verdict:
    """Check a generated file against its manifest, its marks and its label.

    Args:
        path: an OME-TIFF, a DICOM file of the slide, or the folder of its files.
        key: the signer's public key (PEM); None is this user's own.

    A file that cannot be read, whatever the reason, is one that nobody vouches for; the finding says why.
    """
    try:
        found = read_generated(path)
        return replace(_verdict(path, found, key), checked=found.checked)
    except InputRejected as refusal:
        words = f"it cannot be read: {refusal.reason} ({refusal.code}): {refusal.remedy}"
    except OSError as error:
        words = f"it cannot be read: {error.strerror} (cannot-open): check that it is there and may be read"
    return Verdict(State.UNKNOWN, None, None, (words,))


def _verdict(path: Path, found: GeneratedFile, key: Path | None) -> Verdict:
    said = found.said
    text, disagreement = _manifest_text(path, found)
    if text is None:
        return _without_manifest(found, said)
    read = _read(text)
    if read is None:
        return Verdict(State.ALTERED, said, None, ("the manifest is not what its signature was made for",))
    body, signature = read
    if (fault := form_fault(body)) is not None:
        words = f"the manifest is not of the form that clinimm writes: {fault}"
        return Verdict(State.UNKNOWN, said, signature.key_id, (words,))
    provenance = Provenance(
        body["stain"], body["model"], body["source"]["digest"], body["generator"], _of(said)
    )
    problems = (*disagreement, *_problems(body, found))
    doubts = (*_stranger(body, signature, key), *_older(body), *_unchecked(found))
    state = State.ALTERED if problems else State.UNKNOWN if doubts else State.INTACT
    return Verdict(state, provenance, signature.key_id, (*problems, *doubts), body)


def _manifest_text(path: Path, found: GeneratedFile) -> tuple[str | None, tuple[str, ...]]:
    """The manifest, inside the file or beside it, and a sentence where the two are not the same."""
    places = (manifest_beside(path), manifest_beside(path.parent))
    beside = next(
        (one.read_text(encoding="utf-8", errors="replace") for one in places if one.is_file()), None
    )
    if found.manifest is None or beside is None:
        lost = ("the manifest was removed from the file",) if beside is not None else ()
        return beside if found.manifest is None else found.manifest, lost
    same = _loaded(found.manifest) == _loaded(beside)
    return found.manifest, () if same else ("the manifest beside the file is another one",)


def _read(text: str) -> tuple[Mapping[str, Any], Signature] | None:
    value = _loaded(text)
    try:
        body, signature = dict(value["manifest"]), Signature(**value["signature"])
        whole = is_whole(canonical(body), signature)
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return (body, signature) if whole and body.get("schema") in (SCHEMA, *_OLDER) else None


def _problems(body: Mapping[str, Any], found: GeneratedFile) -> tuple[str, ...]:
    """How the file differs from what was signed."""
    signed = [FoundLevel(one["columns"], one["rows"], one["digest"]) for one in body["levels"]]
    problems = []
    if len(signed) != len(found.levels):
        problems.append(f"{len(signed)} levels were signed and {len(found.levels)} are here")
    for number, (expected, level) in enumerate(zip(signed, found.levels, strict=False)):
        if expected != level:
            problems.append(f"the pixels of level {number} were changed")
    if found.uncertainty != body["uncertainty"]["digest"]:
        problems.append("the uncertainty map was " + ("removed" if found.uncertainty is None else "changed"))
    problems += _spacing_problems(body, found)
    if (attributes := body.get("attributes")) is not None:
        names = {size_name(one.columns, one.rows): f"level {number}" for number, one in enumerate(signed)}
        names[UNCERTAINTY] = "the uncertainty map"
        problems += changed(attributes["digests"], attributes["salt"], found.groups, names)
        problems += [f"{one} was not signed" for one in found.groups if one not in attributes["digests"]]
    problems += [f"the mark was removed: {mark}" for mark in found.missing_marks]
    if not found.labelled:
        problems.append("the label is not in the pixels")
    return tuple(problems)


def _spacing_problems(body: Mapping[str, Any], found: GeneratedFile) -> list[str]:
    """Where the file states another pixel spacing than was signed."""
    um = body["micrometres_per_pixel"]
    problems = []
    for number, one in enumerate(body["levels"]):
        stated = found.spacings.get(size_name(one["columns"], one["rows"]), ())
        if not all(_is_near(spacing, um, 1 << number) for spacing in stated):
            problems.append(f"the pixel spacing of level {number} was changed")
    cell = body["uncertainty"]["cell_pixels"]
    if not all(_is_near(spacing, um, cell) for spacing in found.spacings.get(UNCERTAINTY, ())):
        problems.append("the pixel spacing of the uncertainty map was changed")
    return problems


def _is_near(spacing: Spacing, um: list[float], scale: int) -> bool:
    # Written so that what is no number is not near.
    return all(
        abs(one / (signed * scale) - 1) <= _SPACING_TOLERANCE for one, signed in zip(spacing, um, strict=True)
    )


def _older(body: Mapping[str, Any]) -> tuple[str, ...]:
    """What an older manifest does not cover."""
    if body["schema"] == SCHEMA:
        return ()
    return (f"the manifest is of an older form, {body['schema']}: {_OLDER[body['schema']]}",)


def _unchecked(found: GeneratedFile) -> tuple[str, ...]:
    if not found.unchecked:
        return ()
    return (f"other DICOM files lie in the folder, and were not checked: {', '.join(found.unchecked)}",)


def _stranger(body: Mapping[str, Any], signature: Signature, key: Path | None) -> tuple[str, ...]:
    try:
        check(canonical(body), signature, key)
    except IntegrityError as error:
        return (str(error),)
    return ()


def _without_manifest(found: GeneratedFile, said: Provenance | None) -> Verdict:
    if said is not None:
        words = "it is marked as generated, and there is no manifest: nobody vouches for it"
        return Verdict(State.UNKNOWN, said, None, (words,))
    if found.labelled:
        words = (
            "the label in the pixels says that it is a virtual stain, and every mark in the file was removed"
        )
        return Verdict(State.ALTERED, Provenance(marks=("label in the pixels",)), None, (words,))
    return Verdict(State.UNKNOWN, None, None, ("nothing says that it was generated",))


def _of(said: Provenance | None) -> tuple[str, ...]:
    return said.marks if said else ()


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
