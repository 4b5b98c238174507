"""Which slides are pairs: the source that was there at the index, and its stains from after it."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd

from clinimm.cohort.rules import names
from clinimm.cohort.spec import CohortSpec
from clinimm.cohort.window import after_index, trusted, visible, with_index


@dataclass(frozen=True)
class SlidePair:
    """A slide and the stains of the same block.

    Attributes:
        subject_id: whose it is.
        block: the block's label, ``-`` where none is stated.
        source: digest and sealed locator of the source slide.
        targets: stain -> digest and sealed locator.
    """

    subject_id: str
    block: str
    source: tuple[str, str]
    targets: dict[str, tuple[str, str]]

    @property
    def name(self) -> str:
        """``SUBJECT-BLOCK``, which names its files."""
        return f"{self.subject_id}-{self.block}"


def find_pairs(
    events: pd.DataFrame, cohort: pd.DataFrame, spec: CohortSpec, source: str
) -> tuple[list[SlidePair], int]:
    """The pairs of every cohort subject, in order of subject and block.

    A source must say which stain it shows: one that is taken for the usual stain may be the target
    itself, scanned again. It must have been visible at the index time (law 1), and a target lies in
    the label's window after it. Slides belong together when they state the same block; where the targets of a
    subject state none, its latest source slide is taken.

    Args:
        events: ``ingest/events.parquet``.
        cohort: ``cohort/cohort.parquet``.
        spec: the cohort file; the classes of its label are the stains.
        source: stain of the source slides, such as ``HE``.

    Returns:
        The pairs, and how many target slides found no source.
    """
    slides = visible(events, cohort, spec, "pathology")
    named = (slides["code"] == f"SLIDE//{source}").to_numpy(dtype=bool) & _stated(slides)
    sources = _blocks(slides[named])
    targets = _targets(events, cohort, spec)
    found: dict[tuple[str, str], SlidePair] = {}
    alone = 0
    for row in targets.itertuples():
        block = _source_block(sources, str(row.subject_id), str(row.block))
        if block is None:
            alone += 1
            continue
        key = (str(row.subject_id), block)
        pair = found.setdefault(key, SlidePair(key[0], block, sources[key], {}))
        pair.targets.setdefault(str(row.stain), (str(row.digest), str(row.uri)))
    return [found[key] for key in sorted(found)], alone


def _blocks(slides: pd.DataFrame) -> dict[tuple[str, str], tuple[str, str]]:
    """(subject, block) -> its latest slide; slides come in order of time."""
    blocks = _block(slides)
    return {
        (str(subject), block): (str(digest), str(uri))
        for subject, block, digest, uri in zip(
            slides["subject_id"], blocks, slides["digest"], slides["uri"], strict=True
        )
    }


def _source_block(sources: dict[tuple[str, str], tuple[str, str]], subject: str, block: str) -> str | None:
    if (subject, block) in sources:
        return block
    own = [name for owner, name in sources if owner == subject]
    # One side says which block it is and the other does not: a single source leaves no doubt.
    return own[0] if len(own) == 1 and "-" in (block, own[0]) else None


def _targets(events: pd.DataFrame, cohort: pd.DataFrame, spec: CohortSpec) -> pd.DataFrame:
    placed = with_index(trusted(events), cohort)
    placed = placed[after_index(placed, spec.label.window) & placed["uri"].notna().to_numpy(dtype=bool)]
    parts = [placed[names(placed, rule)].assign(stain=stain) for stain, rule in spec.label.resolved().items()]
    table = pd.concat(parts)
    return table.assign(block=_block(table)).sort_values(["subject_id", "stain", "time"], kind="stable")


def _stated(slides: pd.DataFrame) -> np.ndarray:
    """Where a slide says which stain it shows."""
    return np.array(
        [bool(_attributes(text).get("stain_stated")) for text in slides["attributes"]], dtype=bool
    )


def _block(slides: pd.DataFrame) -> list[str]:
    return [str(_attributes(text).get("block") or "-") for text in slides["attributes"]]


def _attributes(text: object) -> dict[str, object]:
    return dict(json.loads(text)) if isinstance(text, str) else {}
