"""One vector of all that an encoder kept of a subject in one modality, without the network."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped

#: Axes of a fine-tuned encoder's feature maps: view, channel, row, column.
_MAPS = 4


def mean_token(tokens: Shaped[np.ndarray, "token ..."]) -> Float[np.ndarray, " dim"]:
    """The mean of a subject's tokens, as ``encode/<modality>/values.npy`` holds them.

    Args:
        tokens: of one subject, at least one. A frozen encoder keeps a vector a token; one that is to be
            fine-tuned keeps feature maps (view, channel, row, column), of which each channel's mean over
            views and places is taken; what a plug-in keeps in another shape is flattened.

    >>> mean_token(np.array([[0.0, 2.0], [2.0, 4.0]])).tolist()
    [1.0, 3.0]
    >>> mean_token(np.ones((5, 2, 3, 7, 7), dtype=np.float16)).shape
    (3,)
    """
    mean = np.asarray(tokens, dtype=float).mean(axis=0)
    return mean.mean(axis=(0, 2, 3)) if mean.ndim == _MAPS else mean.ravel()
