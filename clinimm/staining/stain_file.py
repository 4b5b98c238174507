"""One slide file through a trained stainer into a marked, signed file: what ``clinimm stain`` does."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from clinimm.core.errors import ConfigError, InputRejected, MissingStageError, ModelError
from clinimm.corpus import Corpus
from clinimm.lock import locked
from clinimm.modalities.pathology.resolution import Resolution
from clinimm.modalities.pathology.slide import open_slide
from clinimm.modalities.pathology.synthetic import is_synthetic
from clinimm.progress import QUIET, Progress
from clinimm.staining.codec import Codec
from clinimm.staining.context import ContextData
from clinimm.staining.dicom_source import read_dicom_source, source_digest
from clinimm.staining.export import Format, Identity, export
from clinimm.staining.provenance import Origin
from clinimm.staining.refuse_tile import RefuseTile
from clinimm.staining.run_block import Context, folded
from clinimm.staining.safety import SafetyCase
from clinimm.staining.slide_grid import grid_of
from clinimm.staining.stainer import STAINER_FILES, Stainer
from clinimm.staining.verdict import LEARNABLE
from clinimm.staining.whole_slide import Patient, SlideSource, StainedSlide, StainSettings, stain_slide

SAFETY_NAME = "safety.json"
#: Where a run may keep its stainer, in the order in which they are looked at.
_METRICS = "evaluate/metrics.json"
_PLACES = ("train/model", "train/stainer", ".")
_EXTENSIONS = (".ome.tif", ".ome.tiff")


@dataclass(frozen=True)
class StainRequest:
    """What is asked for.

    Attributes:
        run: folder of a finished run, or of a saved stainer.
        slide: the source.
        out: file (OME-TIFF) or folder (DICOM) that is made.
        stain: name; None is the model's only one.
        resolution_um: of the slide, where its file states none.
        form: ``ome`` or ``dicom``.
        subject_id: whose record conditions the stain; None is nobody's.
        lossless: compress without loss.
        restart: throw away what an interrupted call left.
        keep_identity: carry over patient and study attributes of a DICOM source.
        allow_synthetic: stain a slide that is itself marked as generated.
        despite_verdict: make a stain that the run did not find to be learnable.
        key_file: Ed25519 private key (PEM); None is this user's own.
    """

    run: Path
    slide: Path
    out: Path
    stain: str | None = None
    resolution_um: float | None = None
    form: Format = "ome"
    subject_id: str | None = None
    lossless: bool = False
    restart: bool = False
    keep_identity: bool = False
    allow_synthetic: bool = False
    despite_verdict: bool = False
    key_file: Path | None = None

    @property
    def codec(self) -> Codec:
        """How tiles are compressed."""
        if not self.lossless:
            return Codec("jpeg")
        return Codec("jpeg2000" if self.form == "dicom" else "deflate")


@dataclass(frozen=True)
class StainOutcome:
    """What was made.

    Attributes:
        stained: the slide; its tiles are gone by now.
        manifest: the file beside it.
        judged: whether the model has a safety case, so that anything could be refused.
    """

    stained: StainedSlide
    manifest: Path
    judged: bool


def stain_file(request: StainRequest, progress: Progress = QUIET) -> StainOutcome:
    """Stain a slide file.

    Raises:
        ConfigError: an option is wrong, or unfinished work belongs to something else.
        InputRejected: the slide is refused, for instance because it is itself generated.
        MissingStageError: the run has no stainer yet.
        ModelError: the run did not find the stain to be learnable.
        BusyError: another process stains into the same file.
    """
    _check(request)
    folder = find_stainer(request.run)
    stainer = Stainer.from_pretrained(folder)
    stain = _chosen(stainer, request.stain)
    _check_verdict(request, stain, progress)
    if stainer.spec.context is not None and request.subject_id is None:
        progress.say("  no --subject: the model reads records, and stains as for a patient without one")
    generated = _check_source(request)
    work = request.out.with_name(f".{request.out.name}.unfinished")
    with locked(work):
        if request.restart:
            shutil.rmtree(work / "tiles", ignore_errors=True)
        safety = _safety(folder)
        if safety is None:
            progress.say("  this model has no safety case: no region can be refused")
        refuse = None if safety is None else RefuseTile(safety.refuser(stain))
        patient = Patient(_context(stainer, request), refuse)
        progress.say(f"  reading {request.slide.name} for its digest")
        digest = source_digest(request.slide)
        given = None if request.resolution_um is None else Resolution.of(request.resolution_um)
        with open_slide(request.slide, given) as slide:
            source = SlideSource(slide, grid_of(slide, stainer.spec.resolution_um), digest)
            settings = StainSettings(stain, codec=request.codec)
            stained = stain_slide(source, _ready(stainer), settings, work / "tiles", patient, progress)
        made = datetime.now(UTC).replace(microsecond=0)
        origin = Origin(digest, stainer.digest, generated, patient.to_json(), made)
        manifest = export(
            stained, request.out, request.form, origin, _identity(request, digest), request.key_file
        )
    shutil.rmtree(work, ignore_errors=True)
    return StainOutcome(stained, manifest, safety is not None)


def find_stainer(run: Path) -> Path:
    """The folder of a run's stainer.

    Raises:
        MissingStageError: the run has none.
    """
    for place in _PLACES:
        folder = run / place
        if all((folder / name).is_file() for name in STAINER_FILES) and _is_stainer(folder):
            return folder
    raise MissingStageError(
        f"{run} has no stainer: run `clinimm train` on a pipeline with a `staining` section first."
    )


def _is_stainer(folder: Path) -> bool:
    value = json.loads((folder / STAINER_FILES[0]).read_text(encoding="utf-8"))
    return str(value.get("format", "")).startswith("clinimm.stainer/")


def _ready(stainer: Stainer) -> Stainer:
    ready = folded(stainer)
    assert isinstance(ready, Stainer)
    return ready


def _check(request: StainRequest) -> None:
    if request.form == "ome" and not request.out.name.lower().endswith(_EXTENSIONS):
        raise ConfigError(f"--out {request.out}: an OME-TIFF is named {' or '.join(_EXTENSIONS)}.")
    if request.form == "dicom" and request.out.is_file():
        raise ConfigError(f"--out {request.out}: DICOM is written as a folder, and this is a file.")
    if not request.slide.exists():
        raise ConfigError(f"{request.slide}: there is no such slide.")
    if request.out.exists() and request.out.resolve() in (
        request.slide.resolve(),
        request.slide.resolve().parent,
    ):
        raise ConfigError(f"--out {request.out}: that is the slide itself.")


def _check_source(request: StainRequest) -> bool:
    """Whether the slide is itself generated, where that is allowed."""
    found = is_synthetic(request.slide)
    if found is not None and not request.allow_synthetic:
        raise InputRejected(
            "synthetic-input",
            f"the slide is itself generated ({', '.join(found.marks)})",
            "give the slide that it was made from; --allow-synthetic stains it all the same",
        )
    return found is not None


def _check_verdict(request: StainRequest, stain: str, progress: Progress) -> None:
    """Refuse a stain that the run itself did not find to be learnable.

    Raises:
        ModelError: the verdict is another, and ``despite_verdict`` was not asked for.
    """
    path = request.run / _METRICS
    if not path.is_file():
        progress.say("  this run was never evaluated: nobody knows whether the stain can be learned")
        return
    entry = json.loads(path.read_text(encoding="utf-8")).get("stains", {}).get(stain, {})
    verdict = entry.get("verdict", {})
    if verdict.get("key") == LEARNABLE:
        return
    sentence = str(verdict.get("sentence", f"{stain} was not measured in this run."))
    if not request.despite_verdict:
        raise ModelError(f"{sentence} Nothing is stained; --despite-verdict does it all the same.")
    progress.say(f"  despite the verdict: {sentence}")


def _chosen(stainer: Stainer, stain: str | None) -> str:
    known = stainer.spec.stains
    if stain is None and len(known) > 1:
        raise ConfigError(f"this model makes {', '.join(known)}: choose one with --stain.")
    chosen = known[0] if stain is None else stain
    stainer.stain_index(chosen)
    return chosen


def _safety(folder: Path) -> SafetyCase | None:
    path = folder / SAFETY_NAME
    return SafetyCase.from_json(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def _context(stainer: Stainer, request: StainRequest) -> Context | None:
    """The subject's record as the model reads it; known up to the subject's index time, as in training."""
    if request.subject_id is None:
        return None
    spec = stainer.spec.context
    if spec is None:
        raise ConfigError("--subject: this model looks at pixels only; leave the option out.")
    data = ContextData(Corpus.load(request.run / "encode", spec.plugins), spec)
    with torch.no_grad():
        return stainer.read_context(data.batch([request.subject_id]))


def _identity(request: StainRequest, digest: str) -> Identity:
    source = read_dicom_source(request.slide) if request.form == "dicom" else None
    if request.keep_identity and source is None:
        raise ConfigError(
            "--keep-identity: only from a DICOM slide into DICOM can attributes be carried over."
        )
    return Identity(request.subject_id or f"SLIDE-{digest[:12].upper()}", request.keep_identity, source)
