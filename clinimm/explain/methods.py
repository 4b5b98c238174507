"""The table of methods: one name, one line, and what may be concluded from it."""

from __future__ import annotations

from collections.abc import Callable

from clinimm.core.errors import ConfigError
from clinimm.explain.ablation import feature_ablation, occlusion
from clinimm.explain.baselines import ABSENT, BLURRED, TRAINING, UNINFORMATIVE
from clinimm.explain.gradcam import layer_grad_cam
from clinimm.explain.method import Method, Parts
from clinimm.explain.paths import gradient_shap, integrated_gradients
from clinimm.explain.problem import Problem
from clinimm.explain.promise import PROMISES
from clinimm.explain.relevance import attention_relevance
from clinimm.explain.rollout import attention_rollout
from clinimm.explain.spread import spread

_VALUES = (UNINFORMATIVE, BLURRED, TRAINING)


def _method(
    name: str, run: Callable[[Problem], Parts], baselines: tuple[str, ...] = (), draws: bool = False
) -> Method:
    """A method with what it promises."""
    return Method(run=run, baselines=baselines, draws=draws, **vars(PROMISES[name]))


#: Name in the pipeline file and on the command line -> method.
METHODS: dict[str, Method] = {
    "integrated_gradients": _method("integrated_gradients", integrated_gradients, baselines=_VALUES),
    "gradient_shap": _method(
        "gradient_shap", gradient_shap, baselines=(UNINFORMATIVE, TRAINING, BLURRED), draws=True
    ),
    "spread_gradients": _method("spread_gradients", spread(integrated_gradients), baselines=_VALUES),
    "occlusion": _method("occlusion", occlusion, baselines=(ABSENT, *_VALUES)),
    "feature_ablation": _method("feature_ablation", feature_ablation, baselines=(ABSENT, *_VALUES)),
    "layer_grad_cam": _method("layer_grad_cam", layer_grad_cam),
    "attention_relevance": _method("attention_relevance", attention_relevance),
    "attention_rollout": _method("attention_rollout", attention_rollout),
}


def get_method(name: str) -> Method:
    """A method by its name.

    Raises:
        ConfigError: there is none of that name; lists those that there are.
    """
    if name not in METHODS:
        raise ConfigError(f"explain.method {name!r} is unknown; known are {', '.join(METHODS)}.")
    return METHODS[name]
