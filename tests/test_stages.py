"""The stage table agrees with the code and with itself."""

from __future__ import annotations

import importlib.util
import inspect
from importlib import import_module

import pytest

from clinimm.config import PipelineConfig
from clinimm.core.errors import ConfigError
from clinimm.stages import STAGE_NAMES, STAGES, Stage, get_stage


@pytest.mark.parametrize("staining", [False, True])
@pytest.mark.parametrize("stage", STAGES, ids=STAGE_NAMES)
def test_entry_is_a_function_of_workspace_and_progress(stage: Stage, staining: bool) -> None:
    module, _, function = stage.entry_for(staining).partition(":")
    assert importlib.util.find_spec(module) is not None
    assert list(inspect.signature(getattr(import_module(module), function)).parameters) == [
        "workspace",
        "progress",
    ]


@pytest.mark.parametrize("stage", STAGES, ids=STAGE_NAMES)
def test_stage_reads_from_earlier_stages_only(stage: Stage) -> None:
    earlier = set(STAGE_NAMES[: STAGE_NAMES.index(stage.name)])
    assert {item.partition("/")[0] for item in stage.reads_for(staining=True)} <= earlier
    assert set(stage.reads_for(staining=False)) <= set(stage.reads_for(staining=True))


@pytest.mark.parametrize("stage", STAGES, ids=STAGE_NAMES)
def test_sections_are_those_of_the_pipeline_file(stage: Stage) -> None:
    known = {field.alias or name for name, field in PipelineConfig.model_fields.items()}
    assert set(stage.sections) <= known


def test_every_stage_is_a_verb() -> None:
    from typer.main import get_command

    from clinimm.cli.app import app

    assert set(STAGE_NAMES) <= set(get_command(app).commands)  # type: ignore[attr-defined]


def test_unknown_stage_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="the stages are ingest, cohort, encode, train"):
        get_stage("learn")


@pytest.mark.parametrize("stage", STAGES[2:], ids=STAGE_NAMES[2:])
def test_a_staining_run_is_told_what_it_does_itself(stage: Stage) -> None:
    assert stage.purpose_for(staining=True) != stage.purpose_for(staining=False)
    assert "stain" in stage.purpose_for(staining=True) or "region" in stage.purpose_for(staining=True)
