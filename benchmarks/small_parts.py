"""How fast the small things are that people wait for: start-up, cohort selection, intervals, baselines.

    .venv/bin/python benchmarks/small_parts.py [--rounds N]

Each next to a peer or a bound of the same run, as a ratio of processor seconds, best of N rounds:
``clinimm --help`` against a bare Python; choosing a cohort from 200,000 events against one sort of that
table; resampled AUROC against scikit-learn's, draw by draw; baselines of a stain against scikit-image's
colour deconvolution of the same megapixel. One thread; everything is drawn by the script.
Where the system does not count children (Windows) seconds are by the clock, which it says at its start.
"""

from __future__ import annotations

import argparse
import functools
import os
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from skimage.color import rgb2hed
from sklearn.metrics import roc_auc_score

from clinimm.cohort.select import select
from clinimm.cohort.spec import CohortSpec
from clinimm.core.event import EVENT_COLUMNS
from clinimm.evaluate.bootstrap import draw_weights, resampled, weighted_auroc
from clinimm.evaluate.panel import panel_of
from clinimm.staining.baselines import fit_baselines
from clinimm.staining.pairs import StainPair

#: Windows gives zeros for them (``os.times``).
COUNTS_CHILDREN = os.name == "posix"
_SUBJECTS, _DRAWS, _PEER_DRAWS = 1600, 1000, 50


def best(work: Callable[[], object], rounds: int) -> float:
    """Least seconds of some rounds (``_seconds``)."""
    return min(_spent(work) for _ in range(rounds))


def _spent(work: Callable[[], object]) -> float:
    before = _seconds()
    work()
    return _seconds() - before


def _seconds() -> float:
    """Processor seconds, children included; seconds by the clock on systems that do not tell of children."""
    if not COUNTS_CHILDREN:
        return time.perf_counter()
    spent = os.times()
    return time.process_time() + spent.children_user + spent.children_system


def start_up(rounds: int) -> tuple[float, float]:
    """``clinimm --help`` and an empty Python, seconds."""

    def call(*words: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *words], check=True, capture_output=True)

    return best(call("-m", "clinimm", "--help"), rounds), best(call("-c", "pass"), rounds)


def draw_events(count: int = 200_000, subjects: int = 20_000) -> pd.DataFrame:
    """A hospital's worth of events: one code in two hundred is the outcome, one event in twenty a film."""
    generator = np.random.default_rng(0)
    codes = [f"LOINC//{number}-0" for number in range(200)] + ["outcome//sick"]
    is_film = generator.random(count) < 0.05
    seconds = generator.integers(0, 365 * 24 * 3600, count)
    events = pd.DataFrame(
        {
            "subject_id": [f"S{number:07d}" for number in generator.integers(0, subjects, count)],
            "time": pd.Timestamp("2030-01-01", tz="UTC") + pd.to_timedelta(seconds, unit="s"),
            "code": generator.choice(codes, count),
            "numeric_value": generator.random(count).round(),
            "modality": np.where(is_film, "radiology", "ehr"),
            "category": np.where(is_film, "CR", "laboratory"),
            "attributes": '{"site": "north"}',
        }
    ).reindex(columns=list(EVENT_COLUMNS))
    return events.astype({name: "str" for name, kind in EVENT_COLUMNS.items() if kind == "string"})


def cohort(rounds: int) -> tuple[float, float]:
    """Choosing subjects from 200,000 events, and one sort of them by subject and time, seconds."""
    events = draw_events()
    spec = CohortSpec.model_validate(
        {
            "name": "benchmark",
            "question": "Will it happen?",
            "index": {"modality": "radiology", "which": "first"},
            "inclusion": [{"name": "had one", "code": "LOINC//1*", "window": ["-90 d", "0 d"]}],
            "label": {"task": "sick", "code": "outcome//sick", "value": True, "window": ["0 d", "30 d"]},
            "inputs": {"ehr": {"look_back": "30 d"}, "radiology": {}},
        }
    )
    return (
        best(lambda: select(events, spec), rounds),
        best(lambda: events.sort_values(["subject_id", "time"]), rounds),
    )


def intervals(rounds: int) -> tuple[float, float]:
    """A thousand resampled AUROCs of 1,600 subjects in five repeats, and scikit-learn's, seconds."""
    generator = np.random.default_rng(0)
    label = (np.arange(_SUBJECTS) < 464).astype(float)
    score = generator.random((5, _SUBJECTS)) + 0.3 * label
    rows = [
        pd.DataFrame(
            {
                "subject_id": [f"S{number:05d}" for number in range(_SUBJECTS)],
                "class_name": "sick",
                "probability": score[repeat] / 1.3,
                "label": label,
                "repeat": repeat,
                "fold": 0,
            }
        )
        for repeat in range(5)
    ]
    panel = panel_of(pd.concat(rows, ignore_index=True), ["sick"])
    weights = draw_weights(panel.strata, _DRAWS, 0)

    def peer() -> None:
        for draw in weights[:_PEER_DRAWS]:
            for repeat in range(5):
                roc_auc_score(panel.label[:, 0], panel.probability[:, repeat, 0], sample_weight=draw)

    ours = best(lambda: resampled(panel, weighted_auroc, weights), rounds)
    return ours, best(peer, rounds) * _DRAWS / _PEER_DRAWS


def baselines(rounds: int) -> dict[str, tuple[float, float]]:
    """Each baseline of a stain over a megapixel, and scikit-image's separation of the same, seconds."""
    source = np.random.default_rng(0).integers(0, 256, size=(1000, 1000, 3), dtype=np.uint8)
    small = source[:100, :100]
    pair = StainPair("S", "block", small, {"KI67": small}, np.ones((100, 100), bool), 0.5)
    peer = best(lambda: rgb2hed(source), rounds)
    return {
        f"baseline {name}": (best(functools.partial(one.predict, source, "KI67"), rounds), peer)
        for name, one in fit_baselines([pair]).items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    if not COUNTS_CHILDREN:
        print("This system does not tell processor seconds of children: all seconds are by the clock.")
    figures = {
        "clinimm --help / python -c pass": start_up(rounds),
        "cohort of 200,000 events / one sort": cohort(rounds),
        "1,000 AUROC draws / scikit-learn": intervals(rounds),
        **{f"{name} / rgb2hed": seconds for name, seconds in baselines(rounds).items()},
    }
    for name, (ours, other) in figures.items():
        print(f"{name:<40} {ours:8.3f} s {other:8.3f} s   ratio {ours / other:.3g}")


if __name__ == "__main__":
    main()
