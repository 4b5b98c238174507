"""Observations: every kind of value, normalised units, and values that cannot be true."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import orjson

from clinimm.modalities.ehr.codes import code_of, words_of
from clinimm.modalities.ehr.collect import Collector, Head, Resource
from clinimm.modalities.ehr.fhir_time import Moment
from clinimm.modalities.ehr.units import Conversion, conversion, is_absurd

_cached_conversion = lru_cache(maxsize=16384)(conversion)


def observation(
    collector: Collector, resource: Resource, head: Head, flags: list[str], when: Moment, category: str
) -> None:
    """One fact for the value, and one for each component (such as the two blood pressures)."""
    code = code_of(resource.get("code"))
    if code is None:
        code, flags = "FHIR//Observation", [*flags, "no_code"]
    found = _value(collector, resource, head, flags, when, category, code)
    components = resource.get("component")
    for part in components if isinstance(components, list) else ():
        if isinstance(part, dict):
            own = code_of(part.get("code")) or f"{code}//component"
            found |= _value(collector, part, head, flags, when, category, own)
    if not found:
        reason = "data-absent" if "dataAbsentReason" in resource else "no-value"
        collector.dropped[reason] += 1


def _value(
    collector: Collector,
    holder: Resource,
    head: Head,
    flags: list[str],
    when: Moment,
    category: str,
    code: str,
) -> bool:
    """Emit the value that ``holder`` has; False where it has none at all."""
    quantity = holder.get("valueQuantity")
    if isinstance(quantity, dict):
        _quantity(collector, holder, quantity, head, flags, when, category, code)
        return True
    key = next((key for key in holder if key.startswith("value") and holder[key] is not None), None)
    if key is None:
        return False
    value: Any = holder[key]
    if key == "valueBoolean":
        collector.emit(head, when, code, category, number=float(value is True), flags=flags)
    elif key == "valueInteger" and isinstance(value, int):
        collector.emit(head, when, code, category, number=float(value), flags=flags)
    elif (text := _text(key, value)) is not None:
        collector.emit(head, when, code, category, text=text, flags=flags)
    else:
        collector.dropped[f"value-not-read:{key.removeprefix('value')}"] += 1
    return True


def _text(key: str, value: Any) -> str | None:
    if key == "valueCodeableConcept":
        return words_of(value)
    if key == "valueString":
        return value if isinstance(value, str) else None
    if key == "valueRatio" and isinstance(value, dict):
        parts = [_number((value.get(name) or {}).get("value")) for name in ("numerator", "denominator")]
        if None not in parts:
            return f"{parts[0]:g}:{parts[1]:g}"  # a titre such as 1:128
    return None


def _quantity(
    collector: Collector,
    holder: Resource,
    quantity: dict[str, Any],
    head: Head,
    flags: list[str],
    when: Moment,
    category: str,
    code: str,
) -> None:
    value = _number(quantity.get("value"))
    if value is None:
        collector.dropped["value-not-a-number" if "value" in quantity else "no-value"] += 1
        return
    change = _cached_conversion(code, quantity.get("code") or quantity.get("unit"))
    if change.flag is not None:
        flags = [*flags, change.flag]
    number: float | None = change.apply(value)
    extra = _reference_range(holder, quantity, change) if "referenceRange" in holder else {}
    if "comparator" in quantity:
        flags = [*flags, "comparator"]
        extra["comparator"] = str(quantity["comparator"])
    if is_absurd(code, change.apply(value), change.unit):
        flags = [*flags, "absurd_value"]
        extra["original_value"], extra["original_unit"] = value, quantity.get("code") or quantity.get("unit")
        number = None
    attributes = orjson.dumps(extra, option=orjson.OPT_SORT_KEYS).decode() if extra else None
    collector.emit(
        head, when, code, category, number=number, unit=change.unit, flags=flags, attributes=attributes
    )


def _number(value: Any) -> float | None:
    """A JSON number; FHIR has no ``"NaN"`` and no numbers in quotes."""
    if type(value) is float:
        return value
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            return None
    return None


def _reference_range(holder: Resource, quantity: dict[str, Any], change: Conversion) -> dict[str, Any]:
    """The normal range in the unit of the value, where it was stated in the value's own unit."""
    ranges = holder["referenceRange"]
    first = ranges[0] if isinstance(ranges, list) and ranges and isinstance(ranges[0], dict) else {}
    found: dict[str, Any] = {}
    for key in ("low", "high"):
        bound = first.get(key)
        limit = _number(bound.get("value")) if isinstance(bound, dict) else None
        unit = bound.get("code") or bound.get("unit") if isinstance(bound, dict) else None
        if limit is not None and unit in (None, quantity.get("code"), quantity.get("unit")):
            found[f"reference_{key}"] = change.apply(limit)
    return found
