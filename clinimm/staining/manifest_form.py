"""Whether a signed manifest has the form that clinimm writes.

A signature tells who wrote a manifest, not that it makes sense: anybody can sign anything with a key of
their own. So its form is looked at before any value in it is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

_MOST_LEVELS = 64
_LARGEST = 1e9

_Check = Callable[[Any], bool]


def form_fault(body: Mapping[str, Any]) -> str | None:
    """What of a manifest is missing or makes no sense, in words; None if it has its form."""
    for name, holds in _PARTS.items():
        if name not in body:
            return f"{name} is missing"
        if not holds(body[name]):
            return f"{name} makes no sense"
    if not _is_caution(body.get("cautions", {})):
        return "cautions makes no sense"
    if "attributes" not in body and not str(body["schema"]).endswith("/1"):
        return "attributes is missing"
    if "attributes" in body and not _is_attributes(body["attributes"]):
        return "attributes makes no sense"
    return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and _is_number(value) and value > 0


def _has(value: Any, **parts: _Check) -> bool:
    return isinstance(value, dict) and all(
        name in value and holds(value[name]) for name, holds in parts.items()
    )


def _is_spacing(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_is_number(one) and one > 0 for one in value)


def _is_share(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value) and 0 <= value <= 1


def _is_levels(value: Any) -> bool:
    return (
        isinstance(value, list)
        and 0 < len(value) <= _MOST_LEVELS
        and all(_has(one, columns=_is_count, rows=_is_count, digest=_is_text) for one in value)
    )


def _is_uncertainty(value: Any) -> bool:
    return _has(value, cell_pixels=_is_count, digest=_is_text)


def _is_shares(value: Any) -> bool:
    return _has(value, stained=_is_share, glass=_is_share, refused=_is_share)


def _is_caution(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    sentences = value.get("sentences", [])
    return isinstance(sentences, list) and all(isinstance(one, str) for one in sentences)


def _is_attributes(value: Any) -> bool:
    return _has(value, salt=_is_text, digests=_is_digests)


def _is_digests(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(groups, dict) and all(isinstance(one, str) for one in groups.values())
        for groups in value.values()
    )


_PARTS: Mapping[str, _Check] = {
    "schema": _is_text,
    "stain": _is_text,
    "model": _is_text,
    "generator": _is_text,
    "source": lambda value: _has(value, digest=_is_text),
    "micrometres_per_pixel": _is_spacing,
    "levels": _is_levels,
    "uncertainty": _is_uncertainty,
    "shares": _is_shares,
}
