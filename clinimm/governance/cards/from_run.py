"""Texts that a run says of itself: its question, its inputs, its encoders."""

from __future__ import annotations

from pathlib import Path

from clinimm.governance.cards.card import Text
from clinimm.settings import COHORT_COPY, PIPELINE_COPY
from clinimm.yaml_lines import read_yaml


def run_of(audit: Path) -> Path | None:
    """The run that an ``audit.json`` lies in, or None: ``RUN/audit/`` or ``RUN/audit/published/``."""
    for folder in audit.absolute().parents[1:3]:
        if (folder / PIPELINE_COPY).is_file():
            return folder
    return None


def audit_file_of(run: Path) -> Path | None:
    """The ``audit.json`` of a run, the published view where there is one; None where it was not audited."""
    for path in (run / "audit" / "published" / "audit.json", run / "audit" / "audit.json"):
        if path.is_file():
            return path
    return None


def run_texts(run: Path) -> dict[str, Text]:
    """Topic -> what the run's own files say; people's texts come before it.

    Raises:
        ConfigError: a file of the run cannot be read.
    """
    found: dict[str, str] = {}
    if (run / COHORT_COPY).is_file():
        cohort = read_yaml(run / COHORT_COPY).value
        found["summary"] = f"The model answers: {cohort.get('question', '')}"
        inputs = [_input(name, rules or {}) for name, rules in (cohort.get("inputs") or {}).items()]
        found["predictors"] = f"Named in the run's cohort file: {'; '.join(inputs)}." if inputs else ""
    modalities = read_yaml(run / PIPELINE_COPY).value.get("modalities") or {}
    encoders = {
        name: ((settings or {}).get("encoder") or {}).get("name") for name, settings in modalities.items()
    }
    named = [f"{name}: {encoder}" for name, encoder in encoders.items() if encoder]
    found["foundation_models"] = f"Encoders named in the pipeline file: {'; '.join(named)}." if named else ""
    return {topic: Text(text=text) for topic, text in found.items() if text}


def _input(name: str, rules: dict[str, object]) -> str:
    codes = rules.get("include")
    if not codes:
        return f"{name}, everything on record"
    return f"{name}, codes {', '.join(map(str, codes)) if isinstance(codes, list) else codes}"
