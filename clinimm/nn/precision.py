"""Mixed precision where the processor computes in bfloat16, else none."""

from __future__ import annotations

from typing import Literal

import torch


def autocast(precision: Literal["auto", "float32", "bfloat16"] = "auto") -> torch.autocast:
    """The context in which a network computes.

    Args:
        precision: ``auto`` is bfloat16 on a processor with AMX or AVX512-BF16, where it is about three
            times as fast, and float32 on others, which emulate bfloat16 and are slower with it.
    """
    wanted = precision == "bfloat16" or (precision == "auto" and cpu_has_bfloat16())
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=wanted)


def cpu_has_bfloat16() -> bool:
    """Whether this processor computes in bfloat16."""
    return "amx_bf16" in torch.backends.cpu.get_cpu_capability().lower() or bool(
        torch.cpu._is_avx512_bf16_supported()
    )
