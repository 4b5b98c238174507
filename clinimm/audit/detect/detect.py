"""All detectors in one call: the entry point of ``clinimm audit-table`` and of a pipeline's audit.

    signals = detect(rows, threshold, Extras(outcome=("death", died), period=quarter))
    signals.raised      # names of the detectors that found something
    signals.sentences   # for people
    signals.as_json()   # what ``signals.json`` holds

A detector points; it does not judge. What it finds never changes an exit status: whoever reads it
decides whether it becomes a rule of the policy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from clinimm.audit.detect.drift import GapDrift, drift_of_gaps
from clinimm.audit.detect.label import LabelValidity, label_validity
from clinimm.audit.detect.probe import ProbeResult, metadata_probe, probe
from clinimm.audit.detect.slices import TARGETS, Slices, find_slices
from clinimm.audit.detect_settings import DetectSettings
from clinimm.audit.engine.rows import Coded, Rows

#: At least; more where ``alpha`` asks for them.
_PROBE_PERMUTATIONS = 199
_DRIFTING = ("fnr", "fpr", "observed_less_predicted")


@dataclass(frozen=True)
class Extras:
    """What detectors look at beside the audited rows; all in the order of the rows.

    Attributes:
        features: further columns to slice by.
        outcome: name and values of an outcome that did not make the label; NaN where unknown.
        period: of each row; its levels in order of time.
        metadata: columns that should not tell the label.
        embedding: of each row.
        strata: rows of the same number are alike in what goes with the embedding by its making, such as the
            modalities that there are; null draws permute within them only. None is one stratum.
        targets: what is to be told from the embedding; None is every attribute and the metadata.
    """

    features: Mapping[str, Coded] = field(default_factory=dict)
    outcome: tuple[str, Float[ndarray, " row"]] | None = None
    period: Coded | None = None
    metadata: Mapping[str, Coded] = field(default_factory=dict)
    embedding: Float[ndarray, "row feature"] | None = None
    strata: Int[ndarray, " row"] | None = None
    targets: Mapping[str, Coded] | None = None


@dataclass(frozen=True)
class Signals:
    """What the detectors found; None where one was not asked.

    Attributes:
        slices: the slice search.
        label: an independent outcome at equal predicted risk.
        metadata: the label told from metadata; an empty tuple where it has too few rows.
        embedding: attributes told from the embedding.
        drift: gaps over the periods.
        alpha: chance that one detector finds what is not there.
    """

    slices: Slices | None
    label: LabelValidity | None
    metadata: tuple[ProbeResult, ...] | None
    embedding: tuple[ProbeResult, ...] | None
    drift: tuple[GapDrift, ...] | None
    alpha: float

    @property
    def by_detector(self) -> dict[str, tuple[bool, list[str]]]:
        """Detector -> whether it found something, and its sentences."""
        found: dict[str, tuple[bool, list[str]]] = {}
        for name, one in (("slices", self.slices), ("label_validity", self.label)):
            if one is not None:
                found[name] = one.raised, one.sentences
        probes = (("metadata", self.metadata), ("embedding", self.embedding), ("drift", self.drift))
        for name, many in probes:
            if many is not None:
                told = [one.said(self.alpha) for one in many if one.raised(self.alpha)]
                found[name] = bool(told), told or [_nothing(name, many)]
        return found

    @property
    def raised(self) -> list[str]:
        """Detectors that found something."""
        return [name for name, (raised, _) in self.by_detector.items() if raised]

    @property
    def sentences(self) -> list[str]:
        """Everything for people, detector by detector."""
        return [text for _, texts in self.by_detector.values() for text in texts]

    def as_json(self) -> dict[str, Any]:
        """Plain values, rounded to six digits; NaN is null."""
        results = {
            "slices": self.slices,
            "label_validity": self.label,
            "metadata": self.metadata,
            "embedding": self.embedding,
            "drift": self.drift,
        }
        told = self.by_detector
        return {
            name: {"raised": told[name][0], "sentences": told[name][1], "result": _plain(result)}
            for name, result in results.items()
            if result is not None
        }


def detect(
    rows: Rows, threshold: float, extras: Extras, settings: DetectSettings, *, seed: int = 0
) -> Signals:
    """Run every detector that has something to look at.

    Args:
        rows: what is audited, with its attributes.
        threshold: probability from which a row is flagged.
        extras: what the detectors look at; what is absent is not looked for.
        settings: alpha, permutations, and whether slices are searched.
        seed: of every draw; the same seed gives the same signals.
    """
    label, cluster = rows.label.astype(np.int64), rows.cluster
    slices = outcome = told_label = told_embedding = drift = None
    if settings.slices or extras.features:
        slices = find_slices(
            rows,
            threshold,
            more=extras.features,
            alpha=settings.alpha,
            draws=_enough(settings.permutations, settings.alpha / len(TARGETS)),
            seed=seed,
        )
    permutations = _enough(_PROBE_PERMUTATIONS, settings.alpha)
    if extras.outcome is not None:
        name, values = extras.outcome
        outcome = label_validity(rows, np.asarray(values, dtype=float), name, level=1 - settings.alpha)
    if extras.metadata:
        one = metadata_probe(extras.metadata, label, cluster=cluster, permutations=permutations, seed=seed)
        told_label = () if one is None else (one,)
    if extras.embedding is not None:
        targets = {**rows.attributes, **extras.metadata} if extras.targets is None else extras.targets
        within = label if extras.strata is None else label + 2 * extras.strata
        told_embedding = tuple(
            probe(
                extras.embedding,
                targets,
                "the embedding",
                cluster=cluster,
                within=within,
                permutations=permutations,
                seed=seed,
            )
        )
    if extras.period is not None:
        drift = tuple(drift_of_gaps(rows, extras.period, threshold, _DRIFTING))
    return Signals(slices, outcome, told_label, told_embedding, drift, settings.alpha)


def _enough(permutations: int, alpha: float) -> int:
    """So many draws, or more where fewer could never give a p-value of ``alpha``.

    >>> _enough(199, 0.05), _enough(199, 0.001)
    (199, 1999)
    """
    return max(permutations, math.ceil(2 / alpha - 1e-9) - 1)


def _nothing(name: str, many: tuple[Any, ...]) -> str:
    if not many:
        return f"{name}: too few rows of any level to say anything."
    least = min(one.p for one in many)
    what = {
        "metadata": "the label is not shown to be told from metadata",
        "embedding": "no attribute is shown to be told from the embedding",
        "drift": "no gap is shown to move over the periods",
    }[name]
    return f"Of {len(many)} looked at, {what} (smallest p {least:.3f}). That does not show that none is."


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float | np.floating):
        return round(float(value), 6) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
