"""The stage ``encode`` of a staining run: the record's tokens, and registered pairs of slides."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from clinimm import encode
from clinimm.cohort.stage import read_spec
from clinimm.config import StainingConfig
from clinimm.core.errors import ConfigError, DataError
from clinimm.core.pseudonym import load_pseudonymiser
from clinimm.encode import write_parquet
from clinimm.modalities.pathology.synthetic import is_simulated
from clinimm.parallel import cores, run_jobs
from clinimm.progress import Progress
from clinimm.sources import build_sources
from clinimm.sources.base import Opener
from clinimm.staining.find_pairs import SlidePair, find_pairs
from clinimm.staining.make_regions import ERROR_COLUMNS, Files, Made
from clinimm.staining.pair_store import write_regions
from clinimm.staining.region_cache import cached_regions
from clinimm.staining.verdict import AS_REGISTERED
from clinimm.workspace import Workspace

KIND = "virtual_staining"
#: Below the stage's folder.
PAIRS = "pairs"
_REFUSED = ["file", "item", "code", "reason", "remedy"]


def run(workspace: Workspace, progress: Progress) -> dict[str, Any]:
    """Write ``encode/`` as every run has it, and ``encode/pairs``.

    ``pairs/registration.parquet`` says how well each pair lies on each other, and
    ``pairs/refusals.parquet`` which slides were refused, and why.

    Raises:
        ConfigError: the cohort's label is no stain.
        DataError: no pair of slides can be learned from.
    """
    config = staining_of(workspace)
    spec = read_spec(workspace.need("cohort", "spec.json").parent)
    if spec.label.kind != KIND:
        raise ConfigError(
            f"the pipeline has a `staining` section, but the label of cohort {spec.name} is "
            f"{spec.label.kind}: give it `kind: {KIND}` and the stained slides as `classes`."
        )
    notes = encode.run(workspace, progress)
    events = pd.read_parquet(workspace.need("ingest", "events.parquet"))
    cohort = pd.read_parquet(workspace.need("cohort", "cohort.parquet"))
    pairs, alone = find_pairs(events, cohort, spec, config.source)
    if not pairs:
        raise DataError(
            f"no subject has a {config.source} slide at the index and a stained slide of the same block "
            "after it."
        )
    jobs = _files(workspace, pairs)
    work = partial(cached_regions, cache=workspace.cache, config=config, seed=workspace.config.seed)
    regions = progress.track(run_jobs(work, jobs, cores()), "register", len(jobs))
    made = [_said_simulated(files, one) for files, one in zip(jobs, regions, strict=True)]
    _write(workspace.stage("encode") / PAIRS, made)
    counts = _counts(made, len(pairs), alone)
    progress.say(_sentence(counts))
    if not config.register_pairs:
        progress.say(f"  {AS_REGISTERED}")
    if not counts["regions"]:
        raise DataError(
            f"none of {len(pairs)} pairs of slides can be learned from: {counts['refused']}; see "
            "encode/pairs/refusals.parquet."
        )
    return {**notes, **counts}


def staining_of(workspace: Workspace) -> StainingConfig:
    """The staining section of the pipeline file.

    Raises:
        ConfigError: there is none.
    """
    if workspace.config.staining is None:
        raise ConfigError(f"pipeline {workspace.config.name} has no `staining` section.")
    return workspace.config.staining


def _files(workspace: Workspace, pairs: list[SlidePair]) -> list[Files]:
    config = workspace.config
    opener = Opener(build_sources(config), load_pseudonymiser(config.ingest.pseudonym_key_file))

    def path(slide: tuple[str, str]) -> tuple[Path, str]:
        digest, uri = slide
        return opener.local_path(uri), digest

    return [
        Files(
            pair.subject_id,
            pair.block,
            path(pair.source),
            {stain: path(slide) for stain, slide in sorted(pair.targets.items())},
        )
        for pair in pairs
    ]


def _said_simulated(files: Files, made: Made) -> Made:
    """Mark regions of simulated slides as synthetic, so that what learns from them says so."""
    paths = (files.source, *files.targets.values())
    if not made.regions or not any(is_simulated(path) for path, _ in paths):
        return made
    marked = tuple(
        replace(one, pair=replace(one.pair, synthetic=True, simulated=not one.pair.synthetic))
        for one in made.regions
    )
    return replace(made, regions=marked)


def _write(folder: Path, made: list[Made]) -> None:
    write_regions(folder, [region for one in made for region in one.regions])
    errors = pd.DataFrame([row for one in made for row in one.errors], columns=list(ERROR_COLUMNS))
    write_parquet(folder / "registration.parquet", errors)
    refusals = [vars(refusal) for one in made for refusal in one.refusals]
    write_parquet(folder / "refusals.parquet", pd.DataFrame(refusals, columns=_REFUSED, dtype="str"))


def _counts(made: list[Made], pairs: int, alone: int) -> dict[str, Any]:
    refused = Counter(refusal.code for one in made for refusal in one.refusals)
    return {
        "slide_pairs": pairs,
        "targets_without_source": alone,
        "regions": sum(len(one.regions) for one in made),
        "refused": dict(sorted(refused.items())),
    }


def _sentence(counts: dict[str, Any]) -> str:
    refused = sum(counts["refused"].values())
    text = f"  pairs: {counts['regions']} regions of {counts['slide_pairs']} pairs of slides"
    return text + (f", {refused} slides refused" if refused else "")
