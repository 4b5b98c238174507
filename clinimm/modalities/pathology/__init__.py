"""Whole-slide images, tile by tile."""

from __future__ import annotations

from clinimm.modality import Lazy, Modality

_HERE, _EXTRA = "clinimm.modalities.pathology", "pathology"

MODALITY = Modality(
    name="pathology",
    title="Pathology",
    extra=_EXTRA,
    accepts=Lazy(f"{_HERE}.reader", "accepts", _EXTRA),
    scan=Lazy(f"{_HERE}.reader", "scan", _EXTRA),
    encode=Lazy(f"{_HERE}.encoder", "encode", _EXTRA),
    fit=Lazy(f"{_HERE}.encoder", "fit", _EXTRA),
    build_encoder=Lazy(f"{_HERE}.encoder", "build_encoder", _EXTRA),
    tensorise=Lazy(f"{_HERE}.encoder", "tensorise", _EXTRA),
    locate=Lazy(f"{_HERE}.explain", "locate", _EXTRA),
)
