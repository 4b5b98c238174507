"""Mixed precision where the processor computes in bfloat16, else none."""

from __future__ import annotations

import torch


def autocast() -> torch.autocast:
    """bfloat16 on a processor with AMX or AVX512-BF16: there about three times as fast.

    On others bfloat16 is emulated, and slower than float32.
    """
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=cpu_has_bfloat16())


def cpu_has_bfloat16() -> bool:
    """Whether this processor computes in bfloat16."""
    return "amx_bf16" in torch.backends.cpu.get_cpu_capability().lower() or bool(
        torch.cpu._is_avx512_bf16_supported()
    )
