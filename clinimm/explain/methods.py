"""The table of methods: one name, one line, and what may be concluded from it."""

from __future__ import annotations

from clinimm.core.errors import ConfigError
from clinimm.explain.ablation import feature_ablation, occlusion
from clinimm.explain.baselines import ABSENT, BLURRED, TRAINING, UNINFORMATIVE
from clinimm.explain.gradcam import layer_grad_cam
from clinimm.explain.method import CONTEXT, LOGIT, SHARE, Method
from clinimm.explain.paths import gradient_shap, integrated_gradients
from clinimm.explain.relevance import attention_relevance
from clinimm.explain.rollout import attention_rollout

_VALUES = (UNINFORMATIVE, BLURRED, TRAINING)

#: Name in the pipeline file and on the command line -> method.
METHODS: dict[str, Method] = {
    "integrated_gradients": Method(
        "Integrated gradients",
        integrated_gradients,
        sums=True,
        unit=LOGIT,
        baselines=_VALUES,
        caveat="It tells how the score is shared out between the baseline and the input, not what a change "
        "of one part alone would do.",
    ),
    "gradient_shap": Method(
        "Gradient SHAP",
        gradient_shap,
        sums=True,
        unit=LOGIT,
        baselines=(UNINFORMATIVE, TRAINING, BLURRED),
        draws=True,
        caveat="It is an average over random draws; another seed gives slightly other parts.",
    ),
    "occlusion": Method(
        "Occlusion",
        occlusion,
        sums=False,
        unit=LOGIT,
        baselines=(ABSENT, *_VALUES),
        caveat="Each part is what the score loses without it; parts that stand in for each other look small.",
    ),
    "feature_ablation": Method(
        "Feature ablation",
        feature_ablation,
        sums=False,
        unit=LOGIT,
        baselines=(ABSENT, *_VALUES),
        caveat="Each part is what the score loses without it; parts that stand in for each other look small.",
    ),
    "layer_grad_cam": Method(
        "Layer Grad-CAM",
        layer_grad_cam,
        sums=False,
        unit=SHARE,
        caveat="It is a first-order sketch within a modality; its sizes are not amounts of the score.",
    ),
    "attention_relevance": Method(
        "Attention relevance",
        attention_relevance,
        sums=False,
        unit=SHARE,
        caveat="It follows what raised the score through attention only; what a modality says by itself, "
        "and what spoke against, is not in it.",
    ),
    "attention_rollout": Method(
        "Attention rollout",
        attention_rollout,
        sums=False,
        unit=SHARE,
        role=CONTEXT,
        caveat="It shows where the network looked, and not what moved its answer.",
    ),
}


def get_method(name: str) -> Method:
    """A method by its name.

    Raises:
        ConfigError: there is none of that name; lists those that there are.
    """
    if name not in METHODS:
        raise ConfigError(f"explain.method {name!r} is unknown; known are {', '.join(METHODS)}.")
    return METHODS[name]
