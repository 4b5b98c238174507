"""Recordings for tests, made in code."""

from __future__ import annotations

import numpy as np


def recording(patient: str, time: str, seed: int, amplitude: float = 1.0, seconds: int = 4) -> bytes:
    """A file of the toy format: noise, and one beat a second of the given amplitude (millivolts)."""
    draw = np.random.default_rng(seed)
    samples = draw.normal(0, 0.05, 100 * seconds)
    samples[30::100] += amplitude
    header = f"#ECG patient={patient} time={time} hertz=100\n"
    return (header + " ".join(f"{sample:.3f}" for sample in samples)).encode("ascii")
