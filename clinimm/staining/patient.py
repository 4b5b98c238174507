"""What a patient and a safety case bring to a slide: the record, the calibration, and what refuses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from clinimm.core.record import digest_json
from clinimm.nn.tokens import Tokens
from clinimm.staining.calibrate_stain import ErrorMap
from clinimm.staining.plan import Block

Picture = UInt8[np.ndarray, "row column 3"]
#: A patient's fused tokens as each member of the model sees them (``stainer.Context``).
Context = tuple[Tokens, ...]
#: ``refuse(source, colour, raw expectation of error, features, place)`` of one stored tile: uint8 source and
#: result (row, column, 3), float32 (row, column), float32 features, and where it lies on the stained slide.
#: Gives the reasons not to believe it, of ``refusal.TILE_REASONS``; none where it may be shown.
Refuse = Callable[
    [Picture, Picture, Float[np.ndarray, "row column"], Float[np.ndarray, " feature"], Block],
    tuple[str, ...],
]


@dataclass(frozen=True)
class Patient:
    """What conditions the stain, and what is known of its errors.

    Attributes:
        context: the patient's record as the model reads it (``Stainer.read_context``); None is
            "nothing known".
        refuse: asked for each tile why not to believe it; None believes everything.
        errors: the safety case's map from the model's own expectation of error to the one that was
            observed; None keeps the model's own.
    """

    context: Context | None = None
    refuse: Refuse | None = None
    errors: ErrorMap | None = None

    def expected_error(self, raw: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "row column"]:
        """What the error map of the file shows for the model's own expectation."""
        return raw if self.errors is None else self.errors(raw)

    def to_json(self) -> dict[str, Any]:
        """Digests of all three, for the record."""
        state = hashlib.sha256()
        for tokens in self.context or ():
            for part in (tokens.values, tokens.mask, tokens.time):
                state.update(part.detach().contiguous().numpy().tobytes())
        return {
            "context": None if self.context is None else state.hexdigest(),
            "refusal": None if self.refuse is None else getattr(self.refuse, "digest", "unnamed"),
            "errors": None if self.errors is None else digest_json(self.errors.to_json()),
        }


NOBODY = Patient()
