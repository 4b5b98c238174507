"""Tiny prediction tables made in code."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import expit

from clinimm.evaluate.assemble import Tables

INDEX_TIME = pd.Timestamp("2030-01-01", tz="UTC")


def frame(label, probability, *, repeat=0, fold=0, split="held_out", class_name="severe", **extra):
    n = len(label)
    return pd.DataFrame(
        {
            "subject_id": [f"S{i:05d}" for i in range(n)],
            "index_time": INDEX_TIME,
            "task": "diagnosis",
            "class_name": class_name,
            "probability": np.asarray(probability, float),
            "label": np.asarray(label, float),
            "modalities_present": "ehr+notes",
            "model_digest": "0" * 64,
            "split": split,
            "repeat": repeat,
            "fold": fold,
            **extra,
        }
    )


def scores(generator, label, strength, shared=0.0):
    """Probabilities with a given strength of signal; ``shared`` is a noise vector all predictors have."""
    return expit(strength * (label - 0.5) + 0.7 * generator.normal(size=len(label)) + 0.7 * shared)


def cross_validated(generator, label, strength, repeats, shared=0.0, **extra):
    parts = []
    for repeat in range(repeats):
        fold = generator.permutation(np.arange(len(label)) % 5)
        value = scores(generator, label, strength, shared)
        parts.append(frame(label, value, repeat=repeat, fold=fold, **extra))
    return pd.concat(parts, ignore_index=True)


def run_tables(seed=0, n=300, share=0.4, repeats=1, fused=2.0, singles=None, others=None):
    """A whole predict stage; each value is a strength of signal."""
    generator = np.random.default_rng(seed)
    label = (np.arange(n) < share * n).astype(float)
    shared = generator.normal(size=n)
    make = lambda strength, **extra: cross_validated(generator, label, strength, repeats, shared, **extra)  # noqa: E731
    singles = {"ehr": 1.0, "notes": 0.8} if singles is None else singles
    named = {f"single:{key}": value for key, value in singles.items()}
    named |= {f"linear:{key}": value * 0.9 for key, value in singles.items()}
    named |= {"late_fusion": 1.2, "gradient_boosting": 1.1, "missingness_only": 0.0, "metadata_only": 0.0}
    named |= others or {}
    controls = pd.concat([make(value, control=key) for key, value in named.items()], ignore_index=True)
    subsets = pd.concat(
        [make(value, subset=key) for key, value in {**singles, "ehr+notes": fused}.items()], ignore_index=True
    )
    tuning = make(fused)
    return Tables(make(fused), tuning.assign(split="tuning"), subsets, controls)


def write(tables, folder):
    """The four tables as the predict stage writes them."""
    for name in ("predictions", "tuning", "subsets", "controls"):
        getattr(tables, name).to_parquet(folder / f"{name}.parquet")


def cohort(n, seed=0, **columns):
    """A cohort table for the subjects of ``frame``; some have no sex."""
    generator = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "subject_id": [f"S{i:05d}" for i in range(n)],
            "index_time": INDEX_TIME,
            "label": 0.0,
            "labelled": True,
            "split": "held_out",
            "site_id": generator.choice(["A", "B"], n),
            "sex": generator.choice(np.array(["female", "male", None], dtype=object), n, p=[0.5, 0.4, 0.1]),
            "age_years": 50.0,
            "age_band": generator.choice(["18-39", "40-64", "65+"], n),
            "race": generator.choice(["Asian", "White"], n, p=[0.03, 0.97]),
            "ethnicity": None,
        }
    )
    return table.assign(**columns)
