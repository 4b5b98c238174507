"""One slide file through a trained stainer into a marked, signed file: what ``clinimm stain`` does."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from clinimm.core.errors import ConfigError, InputRejected, ModelError
from clinimm.corpus import Corpus
from clinimm.lock import locked
from clinimm.modalities.pathology.resolution import Resolution
from clinimm.modalities.pathology.slide import open_slide
from clinimm.modalities.pathology.synthetic import is_synthetic
from clinimm.progress import QUIET, Progress
from clinimm.staining.cautions import Cautions, Record
from clinimm.staining.codec import Codec
from clinimm.staining.context import ContextData
from clinimm.staining.dicom_source import read_dicom_source, source_digest
from clinimm.staining.export import Format, Identity, export
from clinimm.staining.new_uids import NewUids
from clinimm.staining.patient import Context, Patient
from clinimm.staining.refuse_tile import RefuseTile
from clinimm.staining.replace_output import check_place, check_replaceable
from clinimm.staining.run_block import folded
from clinimm.staining.shipped_model import ShippedModel, load_shipped
from clinimm.staining.sign_manifest import Origin, manifest_beside
from clinimm.staining.slide_grid import grid_of
from clinimm.staining.stainer import Stainer
from clinimm.staining.synthetic_training import trained_on_synthetic
from clinimm.staining.tissue_damage import TissueDamage
from clinimm.staining.verdict import LEARNABLE
from clinimm.staining.whole_slide import SlideSource, StainedSlide, StainSettings, stain_slide
from clinimm.staining.whose_slide import check_subject, owners, run_key

_METRICS = "evaluate/metrics.json"
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
        keep_identity: carry over patient and study attributes of a DICOM source, and its UIDs.
        allow_synthetic: stain a slide that is itself marked as generated.
        despite_verdict: make a stain that the run did not find to be learnable, or never looked at.
        without_safety_case: use a stainer that cannot refuse anything.
        key_file: Ed25519 private key (PEM); None is this user's own.
        trusted_key: public key (PEM) of who registered the run; None is this user's own.
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
    without_safety_case: bool = False
    key_file: Path | None = None
    trusted_key: Path | None = None

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
        cautions: what must be known of it besides.
    """

    stained: StainedSlide
    manifest: Path
    cautions: Cautions


def stain_file(request: StainRequest, progress: Progress = QUIET) -> StainOutcome:
    """Stain a slide file.

    Raises:
        ConfigError: an option is wrong, ``out`` is something that this program did not make, or unfinished
            work belongs to something else.
        DataError: the record is another subject's than the slide.
        InputRejected: the slide is refused, for instance because it is itself generated.
        IntegrityError: the run is registered, and a file of it is not what was signed.
        MissingStageError: the run has no stainer yet.
        ModelError: the run did not find the stain to be learnable, never looked, or has no safety case.
        BusyError: another process stains into the same file.
    """
    _check(request)
    model = load_shipped(
        request.run,
        request.stain,
        request.without_safety_case,
        request.trusted_key,
        with_tokens=request.subject_id is not None,
    )
    generated = _check_source(request)
    key = run_key(model.run)
    known = owners(model.run, request.slide, key)
    check_subject(request.subject_id, known)
    cautions = _cautions(request, model, known)
    for sentence in cautions.sentences:
        progress.say(f"  {sentence}")
    work = request.out.with_name(f".{request.out.name}.unfinished")
    with locked(work):
        if request.restart:
            shutil.rmtree(work / "tiles", ignore_errors=True)
        progress.say(f"  reading {request.slide.name} for its digest")
        digest = source_digest(request.slide)
        stained, patient = _stain(request, model, digest, cautions, work / "tiles", progress)
        made = datetime.now(UTC).replace(microsecond=0)
        origin = Origin(digest, model.stainer.digest, generated, patient.to_json(), made, cautions)
        identity = _identity(request, digest, NewUids(key))
        manifest = export(stained, request.out, request.form, origin, identity, request.key_file)
    shutil.rmtree(work, ignore_errors=True)
    return StainOutcome(stained, manifest, cautions)


def _cautions(request: StainRequest, model: ShippedModel, known: frozenset[str]) -> Cautions:
    """What must be said of this stain; see also ``_check_verdict``."""
    record: Record = "not read"
    if model.stainer.spec.context is not None:
        record = "of this slide" if known else "chosen by the user"
        if request.subject_id is None:
            record = "none given"
    entry = _evaluation(model)
    return Cautions(
        registered=model.registered,
        safety_case=model.safety is not None,
        evaluated=entry is not None,
        despite=_check_verdict(request, model, entry),
        trained_on_synthetic=trained_on_synthetic(model.run, model.stainer.spec.provenance),
        record=record,
        as_registered=bool(entry) and (entry or {}).get("registration_error_um") is None,
    )


def _stain(
    request: StainRequest,
    model: ShippedModel,
    digest: str,
    cautions: Cautions,
    folder: Path,
    progress: Progress,
) -> tuple[StainedSlide, Patient]:
    """Stain into a folder; also what conditioned and judged it."""
    given = None if request.resolution_um is None else Resolution.of(request.resolution_um)
    with open_slide(request.slide, given) as slide:
        grid = grid_of(slide, model.stainer.spec.resolution_um)
        patient = Patient(_context(model, request))
        if model.safety is not None:
            damage = TissueDamage.of_slide(slide, (grid.width, grid.height), grid.um[0])
            refuse = RefuseTile(model.safety.refuser(model.stain), damage)
            patient = Patient(patient.context, refuse, model.safety.stains[model.stain].errors)
        settings = StainSettings(model.stain, codec=request.codec, notes=cautions.notes)
        source = SlideSource(slide, grid, digest)
        return stain_slide(source, _ready(model.stainer), settings, folder, patient, progress), patient


def _ready(stainer: Stainer) -> Stainer:
    ready = folded(stainer)
    assert isinstance(ready, Stainer)
    return ready


def _check(request: StainRequest) -> None:
    if request.form == "ome" and not request.out.name.lower().endswith(_EXTENSIONS):
        raise ConfigError(f"--out {request.out}: an OME-TIFF is named {' or '.join(_EXTENSIONS)}.")
    if request.form == "ome" and request.out.is_dir():
        raise ConfigError(f"--out {request.out}: an OME-TIFF is written as a file, and this is a folder.")
    if request.form == "dicom" and request.out.is_file():
        raise ConfigError(f"--out {request.out}: DICOM is written as a folder, and this is a file.")
    if not request.slide.exists():
        raise ConfigError(f"{request.slide}: there is no such slide.")
    check_place(request.out, request.slide)
    check_replaceable(request.out, manifest_beside(request.out))


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


def _evaluation(model: ShippedModel) -> dict[str, Any] | None:
    """What the run's evaluation says of the stain, empty where nothing; None without an evaluation."""
    path = model.run / _METRICS
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8")).get("stains", {}).get(model.stain)
    return dict(found or {})


def _check_verdict(request: StainRequest, model: ShippedModel, entry: dict[str, Any] | None) -> str | None:
    """The run's own sentence on a stain that it did not find learnable; None where it did, or never looked.

    Raises:
        ModelError: the verdict is another or there is none, and ``despite_verdict`` was not asked for.
    """
    if entry is None:
        if not request.despite_verdict:
            raise ModelError(
                f"{model.run} was not evaluated (it has no {_METRICS}): nobody knows whether {model.stain} "
                "can be learned. Nothing is stained; run `clinimm evaluate`, or --despite-verdict does it "
                "all the same."
            )
        return None
    verdict = entry.get("verdict", {})
    if verdict.get("key") == LEARNABLE:
        return None
    sentence = str(verdict.get("sentence", f"{model.stain} was not measured in this run."))
    if not request.despite_verdict:
        raise ModelError(f"{sentence} Nothing is stained; --despite-verdict does it all the same.")
    return sentence


def _context(model: ShippedModel, request: StainRequest) -> Context | None:
    """The subject's record as the model reads it; known up to the subject's index time, as in training."""
    if request.subject_id is None:
        return None
    spec = model.stainer.spec.context
    if spec is None:
        raise ConfigError("--subject: this model looks at pixels only; leave the option out.")
    data = ContextData(Corpus.load(model.run / "encode", spec.plugins), spec)
    with torch.no_grad():
        return model.stainer.read_context(data.batch([request.subject_id]))


def _identity(request: StainRequest, digest: str, uids: NewUids) -> Identity:
    source = read_dicom_source(request.slide) if request.form == "dicom" else None
    if request.keep_identity and source is None:
        raise ConfigError(
            "--keep-identity: only from a DICOM slide into DICOM can attributes be carried over."
        )
    patient_id = request.subject_id or f"SLIDE-{uids.name(digest)}"
    return Identity(patient_id, request.keep_identity, source, uids)
