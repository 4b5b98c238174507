"""An outside modality as another team would write it: electrocardiograms in a toy text format.

It is its own package and touches no file of CliniMM. A pipeline adds it by its module name::

    plugins: [tests.outside_ecg]
"""

from __future__ import annotations

from tests.outside_ecg.modality import MODALITY

__all__ = ["MODALITY"]
