"""The electronic health record: vitals, labs, conditions, medication, demographics."""

from __future__ import annotations

from clinimm.modality import Lazy, Modality

_HERE, _EXTRA = "clinimm.modalities.ehr", "ehr"

MODALITY = Modality(
    name="ehr",
    title="Health record",
    extra=_EXTRA,
    accepts=Lazy(f"{_HERE}.reader", "accepts", _EXTRA),
    scan=Lazy(f"{_HERE}.reader", "scan", _EXTRA),
    encode=Lazy(f"{_HERE}.transform", "encode", _EXTRA),
    fit=Lazy(f"{_HERE}.transform", "fit", _EXTRA),
    tensorise=Lazy(f"{_HERE}.transform", "tensorise", _EXTRA),
    build_encoder=Lazy(f"{_HERE}.encoder", "build_encoder", _EXTRA),
    locate=Lazy(f"{_HERE}.explain", "locate", _EXTRA),
)
