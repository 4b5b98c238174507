"""The stages of a run, in order, and what each reads and depends on.

A stage is up to date when its record says that the same code, seed, settings and inputs made the
outputs that still lie there, byte for byte (law 4). Anything else makes it run again.
"""

from __future__ import annotations

from dataclasses import dataclass

from clinimm.core.errors import ConfigError


@dataclass(frozen=True)
class Staining:
    """What a stage does instead where the pipeline file has a ``staining`` section.

    Attributes:
        entry: ``module:function`` that does the work.
        purpose: one sentence for people.
        reads: files and whole stages that it reads besides those of the stage.
    """

    entry: str
    purpose: str
    reads: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """One step of a run.

    Attributes:
        name: its verb, and its folder below the run.
        entry: ``module:function`` that does the work, ``(Workspace, Progress) -> notes``.
        purpose: one sentence for people.
        sections: parts of the pipeline file that change its result.
        reads: files (``cohort/task.json``) and whole stages (``encode/``) that it reads.
        external: what it reads from outside the run: ``sources``, ``cohort``, ``policy``,
            ``waivers``, ``findings`` or ``before``.
        memory: its subfolders that serve its own next run, are no result and always stay.
        staining: what a run for virtual staining does instead; None where that is the same.
    """

    name: str
    entry: str
    purpose: str
    sections: tuple[str, ...]
    reads: tuple[str, ...] = ()
    external: tuple[str, ...] = ()
    memory: tuple[str, ...] = ()
    staining: Staining | None = None

    def entry_for(self, staining: bool) -> str:
        """The entry that does the work of a run for virtual staining, or of any other run."""
        return self.staining.entry if staining and self.staining else self.entry

    def purpose_for(self, staining: bool) -> str:
        """What it is for in a run for virtual staining, or in any other run."""
        return self.staining.purpose if staining and self.staining else self.purpose

    def reads_for(self, staining: bool) -> tuple[str, ...]:
        """What a run for virtual staining, or any other run, reads."""
        return (*self.reads, *self.staining.reads) if staining and self.staining else self.reads


STAGES: tuple[Stage, ...] = (
    Stage(
        "ingest",
        "clinimm.ingest.stage:run",
        "Read the sources into events.parquet and refusals.parquet.",
        sections=("sources", "ingest", "plugins"),
        external=("sources",),
        memory=("state",),
    ),
    Stage(
        "cohort",
        "clinimm.cohort.stage:run",
        "Choose subjects, index times, labels and splits by the cohort file.",
        sections=("plugins",),
        reads=("ingest/events.parquet", "ingest/subjects.parquet"),
        external=("cohort",),
    ),
    Stage(
        "encode",
        "clinimm.encode:run",
        "Cut at the index time and turn what is left into tokens.",
        sections=("sources", "modalities", "encode", "plugins", "staining"),
        reads=("ingest/events.parquet", "cohort/cohort.parquet", "cohort/spec.json"),
        staining=Staining(
            "clinimm.staining.stages.encode:run",
            "Register the stained slides on their sources, cut regions, and turn the record into tokens.",
        ),
    ),
    Stage(
        "train",
        "clinimm.fit:run",
        "Fit the fused model and its simpler rivals.",
        sections=("modalities", "model", "train", "plugins", "staining"),
        reads=("cohort/", "encode/"),
        staining=Staining(
            "clinimm.staining.stages.train:run",
            "Fit the stainer, its twin without the record, and the baselines.",
        ),
    ),
    Stage(
        "predict",
        "clinimm.predict:run",
        "Score held-out subjects with the model, its subsets and the controls.",
        sections=("modalities", "model", "train", "plugins", "staining"),
        reads=("ingest/events.parquet", "cohort/", "encode/", "train/"),
        staining=Staining(
            "clinimm.staining.stages.predict:run",
            "Stain held-out regions, and say where the stain must not be believed.",
        ),
    ),
    Stage(
        "evaluate",
        "clinimm.evaluate.stage:run",
        "Discrimination, calibration, subsets, controls, and whether fusion helps.",
        sections=("evaluate", "staining"),
        reads=("cohort/", "predict/"),
        staining=Staining(
            "clinimm.staining.stages.evaluate:run",
            "Likeness and biology of the stain beside its baselines, and whether it can be learned.",
            reads=("encode/pairs/", "train/"),
        ),
    ),
    Stage(
        "explain",
        "clinimm.explain.stage:run",
        "Attribute held-out predictions to pixels, tiles, facts and words.",
        sections=("explain", "modalities", "plugins", "staining"),
        reads=("cohort/", "encode/", "train/", "predict/predictions.parquet", "evaluate/metrics.json"),
        external=("policy", "findings"),
        staining=Staining(
            "clinimm.staining.stages.explain:run",
            "Which pixels and which facts of the record changed a region.",
            reads=("predict/",),
        ),
    ),
    Stage(
        "audit",
        "clinimm.audit.stage:run",
        "Compare groups of people against the policy.",
        sections=("audit", "evaluate", "staining"),
        reads=("cohort/", "predict/", "evaluate/metrics.json"),
        external=("policy", "waivers", "before"),
        staining=Staining(
            "clinimm.staining.stages.audit:run",
            "Compare the error of the stain between groups of people.",
        ),
    ),
    Stage(
        "register",
        "clinimm.register.stage:run",
        "Sign the run's manifest and track it in MLflow, so that it can be approved.",
        sections=("register", "staining"),
        reads=("train/model/", "predict/predictions.parquet", "evaluate/", "explain/", "audit/"),
        staining=Staining(
            "clinimm.register.staining:run",
            "Sign the manifest and track the stainer's files in MLflow, so that it can be approved.",
        ),
    ),
    Stage(
        "report",
        "clinimm.report.stage:run",
        "Write the model card and the patient pages.",
        sections=("report", "explain", "evaluate", "staining"),
        reads=(
            "ingest/refusals.parquet",
            "cohort/",
            "encode/index.json",
            "train/model/",
            "predict/",
            "evaluate/",
            "explain/",
            "audit/",
            "register/registration.json",
        ),
        staining=Staining(
            "clinimm.report.staining:run",
            "Write the model card and the pages of regions.",
            reads=("encode/pairs/", "train/fits/"),
        ),
    ),
)
STAGE_NAMES = tuple(stage.name for stage in STAGES)


def get_stage(name: str) -> Stage:
    """A stage by name.

    Raises:
        ConfigError: there is none of that name; lists those that there are.
    """
    for stage in STAGES:
        if stage.name == name:
            return stage
    raise ConfigError(f"stage {name!r} is unknown; the stages are {', '.join(STAGE_NAMES)}.")
