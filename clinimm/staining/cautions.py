"""What a reader of a virtual stain must know besides that it is one: of the run, the model and the record.

The same sentences stand in the output of ``clinimm stain``, in the signed manifest, in the file's own
description, and the gravest in its corner.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

#: Whose record conditioned the stain: the model reads none; none was given; that of whom the run knows the
#: slide to be of; that of whom the user named, where the run does not know the slide.
Record = Literal["not read", "none given", "of this slide", "chosen by the user"]

_RECORDS: dict[Record, str] = {
    "none given": "The model reads records and was given none: stained as for a patient without one.",
    "chosen by the user": "The record was chosen by the user: the run does not know whose slide this is.",
}


@dataclass(frozen=True)
class Cautions:
    """What is known of a stain's making; unless it is said, nothing is.

    Attributes:
        registered: whether the model is, file for file, the one that the run's signed manifest names.
        safety_case: whether tiles could be refused, and the error map is calibrated.
        evaluated: whether the run says if the stain can be learned.
        despite: the run's sentence where it does not find the stain learnable and was overridden.
        trained_on_synthetic: whether the model learned from simulated or generated images.
        record: whose record was read.
        as_registered: whether its training pairs were taken as registered, nobody measured how far apart they
            are; not known of a run that was not evaluated, which is said of it anyway.
    """

    registered: bool = False
    safety_case: bool = False
    evaluated: bool = False
    despite: str | None = None
    trained_on_synthetic: bool = False
    record: Record = "not read"
    as_registered: bool = False

    @property
    def sentences(self) -> tuple[str, ...]:
        """Everything that a reader must know, the longest last."""
        found = [
            (
                not self.safety_case,
                "No safety case: no tile could be refused, and errors are not calibrated.",
            ),
            (self.trained_on_synthetic, "Trained on synthetic images."),
            (not self.registered, "Run not registered: nobody signed for its model."),
            (not self.evaluated, "Run not evaluated: nobody knows whether the stain can be learned."),
            (self.as_registered, "Training pairs were taken as registered; no error was measured."),
            (self.record in _RECORDS, _RECORDS.get(self.record, "")),
            (self.despite is not None, f"Made despite the verdict: {self.despite}"),
        ]
        return tuple(words for holds, words in found if holds)

    @property
    def notes(self) -> tuple[str, ...]:
        """Further lines of the label in the corner."""
        found = [
            (not self.safety_case, "NO SAFETY CASE"),
            (self.despite is not None, "VERDICT OVERRIDDEN"),
            (not self.evaluated, "NOT EVALUATED"),
            (self.trained_on_synthetic, "TRAINED ON SYNTHETIC"),
            (not self.registered, "NOT REGISTERED"),
        ]
        return tuple(words for holds, words in found if holds)

    def to_json(self) -> dict[str, Any]:
        """As JSON values, with the sentences."""
        return {**asdict(self), "sentences": list(self.sentences)}
