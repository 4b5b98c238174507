"""What each method of explanation promises, and what it does not: known to pages, so without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

ATTRIBUTION: Final = "attribution"
CONTEXT: Final = "context"
LOGIT: Final = "logit"
SHARE: Final = "share"


@dataclass(frozen=True)
class Promise:
    """What may be concluded from a method; see ``clinimm.explain.method.Method`` for the meaning.

    Attributes:
        title: for people.
        sums: whether parts sum to the change of the logit, up to a residual that is kept.
        unit: ``logit`` or ``share``.
        role: ``attribution`` or ``context``.
        caveat: one sentence on what it does not tell.
    """

    title: str
    sums: bool
    unit: Literal["logit", "share"]
    role: Literal["attribution", "context"] = ATTRIBUTION
    caveat: str = ""


#: Name in the pipeline file and on the command line -> promise.
PROMISES: dict[str, Promise] = {
    "integrated_gradients": Promise(
        "Integrated gradients",
        sums=True,
        unit=LOGIT,
        caveat="It tells how the score is shared out between the baseline and the input, not what a change "
        "of one part alone would do.",
    ),
    "gradient_shap": Promise(
        "Gradient SHAP",
        sums=True,
        unit=LOGIT,
        caveat="It is an average over random draws; another seed gives slightly other parts.",
    ),
    "spread_gradients": Promise(
        "Integrated gradients, films spread",
        sums=True,
        unit=LOGIT,
        caveat="On films each cell's part is shared with its neighbours, about as far as the encoder sees: "
        "it points at a region, and detail finer than two cells is not in it.",
    ),
    "occlusion": Promise(
        "Occlusion",
        sums=False,
        unit=LOGIT,
        caveat="Each part is what the score loses without it; parts that stand in for each other look small.",
    ),
    "feature_ablation": Promise(
        "Feature ablation",
        sums=False,
        unit=LOGIT,
        caveat="Each part is what the score loses without it; parts that stand in for each other look small.",
    ),
    "layer_grad_cam": Promise(
        "Layer Grad-CAM",
        sums=False,
        unit=SHARE,
        caveat="It is a first-order sketch within a modality; its sizes are not amounts of the score.",
    ),
    "attention_relevance": Promise(
        "Attention relevance",
        sums=False,
        unit=SHARE,
        caveat="It follows what raised the score through attention only; what a modality says by itself, "
        "and what spoke against, is not in it.",
    ),
    "attention_rollout": Promise(
        "Attention rollout",
        sums=False,
        unit=SHARE,
        role=CONTEXT,
        caveat="It shows where the network looked, and not what moved its answer.",
    ),
}
