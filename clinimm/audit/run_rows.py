"""A run's held-out predictions as the rows of an audit: one subject a row, or one a repeat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clinimm.audit.engine.rows import Coded, Rows
from clinimm.audit.groups import MISSING, levels_of
from clinimm.audit.policy import Policy
from clinimm.audit.table.list_groups import HAS
from clinimm.audit.table.study import CROSS
from clinimm.core.prediction import JOIN
from clinimm.evaluate.operating import OperatingPoint
from clinimm.evaluate.panel import Panel

PRESENT = "modalities_present"
_YES, _NO = "yes", "no"


def rows_of(
    panel: Panel, point: OperatingPoint, attributes: Mapping[str, NDArray[np.object_]], seed: int
) -> Rows:
    """One class's predictions as rows.

    Args:
        panel: predictions of one class.
        point: the threshold, or that of each fold.
        attributes: level of each subject of the panel.
        seed: of the audit's draws.
    """
    probability = panel.probability[:, :, 0]
    subject, repeat = np.nonzero(~np.isnan(probability))
    chosen = probability[subject, repeat]
    label = panel.label[subject, 0].astype(np.uint8)
    flagged = chosen >= point.thresholds(panel)[subject, repeat] if point.fits else None
    coded = {name: _coded(levels, subject) for name, levels in attributes.items()}
    if len(panel.repeats) == 1:
        return Rows(label, chosen, coded, None, seed, flagged)
    return Rows(label, chosen, coded, subject, seed, flagged, repeat)


def subjects_of(panel: Panel) -> NDArray[np.object_]:
    """The subject of each row of ``rows_of``."""
    subject, _ = np.nonzero(~np.isnan(panel.probability[:, :, 0]))
    return np.asarray(panel.subject_ids, dtype=object)[subject]


def attributes_of(
    cohort: pd.DataFrame, predictions: pd.DataFrame, subjects: Sequence[str], policy: Policy
) -> dict[str, NDArray[np.object_]]:
    """Attribute -> level of each subject, and which modalities it has, together and each alone.

    A policy that names ``attributes`` limits what is shown to those and to what its rules judge.

    Raises:
        DataError: a predicted subject is not in the cohort.
    """
    found = levels_of(cohort, subjects)
    present = predictions.drop_duplicates("subject_id").set_index("subject_id")[PRESENT]
    keys = present.loc[list(subjects)].astype(str).to_numpy(dtype=object)
    found[PRESENT] = keys
    found |= _availability(keys)
    if policy.attributes is None:
        return found
    ruled = [part.strip() for rule in policy.rules for name in rule.attribute for part in name.split(CROSS)]
    wanted = dict.fromkeys([*policy.attributes, *ruled])
    return {name: found[name] for name in wanted if name in found}


def _availability(keys: NDArray[np.object_]) -> dict[str, NDArray[np.object_]]:
    """``has radiology`` and so on, of each modality that some have and some do not."""
    owned = [set(key.split(JOIN)) for key in keys]
    names = sorted(set().union(*owned) - {"none"}) if owned else []
    found = {
        f"{HAS}{name}": np.array([_YES if name in one else _NO for one in owned], dtype=object)
        for name in names
    }
    return {name: levels for name, levels in found.items() if len(set(levels.tolist())) > 1}


def _coded(levels: NDArray[np.object_], subject: NDArray[np.int64]) -> Coded:
    names = sorted(set(levels.tolist()), key=lambda level: (level == MISSING, level))
    number = {name: place for place, name in enumerate(names)}
    code = np.array([number[level] for level in levels], dtype=np.int64)
    return Coded(code[subject], tuple(names))
