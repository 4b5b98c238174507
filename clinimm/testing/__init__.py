"""Checks and tiny fixtures that outside modalities may use too."""

from __future__ import annotations

from clinimm.testing.check_modality import ContractBrokenError, check_modality

__all__ = ["ContractBrokenError", "check_modality"]
