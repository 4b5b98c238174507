"""What a stainer is to be, from the settings and from what it is trained on."""

from __future__ import annotations

from collections.abc import Sequence

from clinimm.config import StainingConfig
from clinimm.nn.stain.generator import GeneratorSettings
from clinimm.staining.context import ContextData
from clinimm.staining.pairs import StainPair, stains_of
from clinimm.staining.stainer import StainerSpec
from clinimm.tasks.virtual_staining import StainTask


def training_spec(
    training: Sequence[StainPair],
    tuning: Sequence[StainPair],
    config: StainingConfig,
    seed: int,
    context: ContextData | None,
    source_stain: str,
) -> StainerSpec:
    """The spec of a stainer to be trained.

    Args:
        training, tuning: the pairs; they name the stains, and are counted.
        config: the generator and its size.
        seed: of the training, and of a sampler's noise.
        context: the patients' records; None for pixels alone.
        source_stain: the stain of the pairs' sources.
    """
    task = StainTask(stains_of(training))
    return StainerSpec(
        task=task,
        source_stain=source_stain,
        resolution_um=config.resolution_um,
        generator=config.generator,
        settings=GeneratorSettings(
            stains=len(task.stains),
            width=config.width,
            levels=config.levels,
            fold=config.fold,
            context_dim=None if context is None else context.spec.model.width,
            sampler_steps=config.sampler_steps,
            noise_seed=seed,
        ),
        members=config.members,
        context=None if context is None else context.spec,
        provenance={
            "seed": seed,
            "training_subjects": len({pair.subject_id for pair in training}),
            "tuning_subjects": len({pair.subject_id for pair in tuning}),
            "training_pairs": len(training),
            "trained_on_synthetic": any(pair.synthetic for pair in (*training, *tuning)),
        },
    )
