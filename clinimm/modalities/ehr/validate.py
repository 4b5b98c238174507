"""Validation against R4B, by the classes of ``fhir.resources``: all resources, a sample, or none."""

from __future__ import annotations

import zlib
from functools import cache
from typing import Any

from clinimm.modalities.ehr.collect import Resource, item_of

#: In a sample, one resource in this many is validated, chosen by its id.
SAMPLE_EVERY = 200


def sampled(resource: Resource) -> bool:
    """Whether the sample holds this resource: the same answer in every run and every process."""
    return zlib.crc32(item_of(resource).encode()) % SAMPLE_EVERY == 0


def problem_of(resource: Resource) -> str | None:
    """What R4B objects to, without any value of the resource; None where it is valid."""
    from pydantic import ValidationError

    model = _model(str(resource["resourceType"]))
    if model is None:
        return "no such resource type in R4B"
    try:
        model.model_validate(resource)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['type']}"
    return None


@cache
def _model(kind: str) -> Any:
    """The R4B class; importing one takes half a second, so only those that are needed are."""
    from fhir.resources.R4B import get_fhir_model_class

    try:
        return get_fhir_model_class(kind)
    except KeyError:
        return None
