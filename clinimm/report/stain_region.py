"""One held-out region as a page: source, virtual, real, uncertainty and what was refused, side by side."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clinimm.modalities.synthetic import Provenance
from clinimm.report.page import asset, data_uri, render
from clinimm.report.stain_choice import Choice
from clinimm.report.stain_facts import StainFacts
from clinimm.report.stain_figures import nice
from clinimm.report.stain_numbers import region_numbers
from clinimm.report.stain_pictures import error_picture, photograph, ramp, signed_picture, virtual
from clinimm.report.stain_refused import Block, refused_blocks
from clinimm.staining.prediction_store import Result

#: The warning as a page has it; the same words are burnt into the pixels.
WARNING = "VIRTUAL STAIN – NOT A REAL STAIN"


@dataclass(frozen=True)
class Layer:
    """A picture of the region.

    Attributes:
        key: its id on the page.
        title: what it is called.
        uri: ``data:`` address.
        said: for those who do not see it.
        made: whether it is a virtual stain.
    """

    key: str
    title: str
    uri: str
    said: str
    made: bool = False


@dataclass(frozen=True)
class StainView:
    """One stain of the region, ready for the template.

    Attributes:
        key: number of the stain on the page.
        stain: which.
        virtual, plain, real, error, changed: pictures; None where there is none.
        tiles: how many the region has.
        refused: rectangles of tiles that are refused for the same reasons.
        refused_tiles: how many are refused.
        unjudged: share of the region that lies in no tile, so that nobody judged it.
        mean_error: mean expected error of the region, 0 to 1.
        numbers: measures, real beside virtual, with the reason where there are none.
        explanation: what changed the stain here; None where it was not asked.
    """

    key: int
    stain: str
    virtual: Layer
    plain: Layer | None
    real: Layer | None
    error: Layer
    changed: Layer | None
    tiles: int
    refused: tuple[Block, ...]
    refused_tiles: int
    unjudged: float
    mean_error: float
    numbers: Sequence[Mapping[str, str]]
    no_numbers: str
    explanation: Mapping[str, Any] | None

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The pictures of this stain."""
        known = (self.virtual, self.plain, self.real, self.error, self.changed)
        return tuple(one for one in known if one is not None)


def region_page(
    facts: StainFacts, result: Result, choice: Choice, number: int, pages: int, most_error: float
) -> str:
    """The page of one region as text; equal runs give equal bytes.

    Args:
        facts: the run.
        result: the region and what was made of it.
        choice: how it was chosen.
        number, pages: of this page, and how many there are.
        most_error: expected error at the end of the colour scale, 0 to 1.
    """
    pair = result.region.pair
    source = Layer(
        "source",
        f"Source, {facts.source}",
        data_uri(photograph(pair.source, _inherited(result)), "image/jpeg"),
        f"Source slide in {facts.source}, {pair.specimen}.",
    )
    stains = [_view(facts, result, stain, key, most_error) for key, stain in enumerate(sorted(result.made))]
    height, width = pair.source.shape[:2]
    return render(
        "stain_region.html",
        more_style=asset("stain_page.css"),
        script=asset("stain_viewer.js"),
        facts=facts,
        result=result,
        pair=pair,
        choice=choice,
        number=number,
        pages=pages,
        source=source,
        stains=stains,
        warning=WARNING,
        width=width,
        height=height,
        scale=scale_bar(width, height, pair.resolution_um),
        most_error=most_error,
        ramp="".join(f"{red:02x}{green:02x}{blue:02x}" for red, green, blue in ramp().tolist()),
        ramp_stops=[f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in ramp()[::15].tolist()],
    )


def provenance(facts: StainFacts, result: Result, stain: str) -> Provenance:
    """What a virtual stain of a region says about its making."""
    record = facts.run.record("predict")
    generator = f"clinimm {record.code_version}" if record else "clinimm"
    return Provenance(stain, facts.fit_digest(result.fit), result.region.digest, generator)


def scale_bar(width: float, height: float, resolution_um: float) -> dict[str, float | str]:
    """A bar of a round length for the upper right corner, in pixels of the region; the script does the same.

    >>> scale_bar(512, 512, 0.5)["words"]
    '50 µm'
    """
    target = width * resolution_um / 4
    power = 10.0 ** math.floor(math.log10(target))
    length = max(step * power for step in (1, 2, 5) if step * power <= target)
    unit, right = width / 100, width - 3 * width / 100
    return {
        "x1": right - length / resolution_um,
        "x2": right,
        "y": 8 * unit,
        "size": 4 * unit,
        "words": f"{length:g} µm",
    }


def error_scale(results: Sequence[Result]) -> float:
    """A round expected error that all but one pixel in two hundred of these regions stay below, 0 to 1."""
    tops = [
        float(np.quantile(one.expected_error, 0.995)) for result in results for one in result.made.values()
    ]
    return min(1.0, max(0.01, nice(max(tops, default=0.1))))


def _view(facts: StainFacts, result: Result, stain: str, key: int, most_error: float) -> StainView:
    pair, made = result.region.pair, result.made[stain]
    own = result.tiles[result.tiles["stain"] == stain]
    refused, tiles = result.refused(stain), refused_blocks(own)
    said = provenance(facts, result, stain)
    real = pair.targets.get(stain)
    numbers, without = region_numbers(result, stain)
    explanation = _explanation(facts, result, stain)
    mean = float(made.expected_error[pair.valid].mean()) if pair.valid.any() else float("nan")
    plain = None if made.plain is None else virtual(made.plain, refused, stain, said)
    return StainView(
        key=key,
        stain=stain,
        virtual=Layer(
            f"virtual-{key}",
            f"Virtual {stain}",
            _png(virtual(made.rgb, refused, stain, said)),
            f"{WARNING}. {_refusal(tiles)}",
            True,
        ),
        plain=None
        if plain is None
        else Layer(
            f"plain-{key}",
            f"Virtual {stain}, from pixels alone",
            _png(plain),
            f"{WARNING}, made without the record.",
            True,
        ),
        real=None
        if real is None
        else Layer(
            f"real-{key}",
            f"Real {stain}",
            data_uri(photograph(real, _inherited(result)), "image/jpeg"),
            f"The same place really stained with {stain}, registered onto the source.",
        ),
        error=Layer(
            f"error-{key}",
            "Expected error",
            _png(error_picture(made.expected_error, most_error, said)),
            f"Expected error of the colour, on average {100 * mean:.1f} % of full scale.",
        ),
        changed=_changed(facts, result, stain, key, explanation, said),
        tiles=len(own),
        refused=tiles,
        refused_tiles=int(own["refused"].sum()),
        unjudged=max(0.0, 1 - float((own["side"] ** 2).sum()) / pair.valid.size),
        mean_error=mean,
        numbers=numbers,
        no_numbers=without,
        explanation=explanation,
    )


def _refusal(tiles: Sequence[Block]) -> str:
    if not tiles:
        return "No tile is refused."
    return "Refused tiles, hatched: " + "; ".join(
        f"x {one.left}, y {one.top}: {', '.join(one.why)}" for one in tiles
    )


def _png(content: bytes) -> str:
    return data_uri(content, "image/png")


def _inherited(result: Result) -> Provenance | None:
    """The mark that scans of a generated slide keep, as simulations may use them."""
    pair = result.region.pair
    return Provenance(source_digest=result.region.digest) if pair.synthetic else None


def _explanation(facts: StainFacts, result: Result, stain: str) -> Mapping[str, Any] | None:
    """What the explain stage found for this stain of this region, where it looked."""
    path = facts.workspace.root / "explain" / "regions.json"
    if not path.is_file():
        return None
    region = result.region
    wanted = (region.pair.subject_id, region.pair.specimen, result.fit, stain, region.left, region.top)
    for entry in json.loads(path.read_text(encoding="utf-8")):
        place = entry["place"]
        names = (entry[name] for name in ("subject_id", "specimen", "fit", "stain"))
        if (*names, place["left"], place["top"]) == wanted:
            return dict(entry)
    return None


def _changed(
    facts: StainFacts,
    result: Result,
    stain: str,
    key: int,
    explanation: Mapping[str, Any] | None,
    said: Provenance,
) -> Layer | None:
    """Which pixels of the source changed the stain of the explained tile."""
    if explanation is None:
        return None
    scores = np.load(facts.workspace.root / "explain" / explanation["pixels"], allow_pickle=False)
    if scores.shape != result.region.pair.valid.shape:
        return None
    return Layer(
        f"changed-{key}",
        f"What raised and lowered {stain}",
        _png(signed_picture(scores, said)),
        f"Which pixels of the source raised (orange) and lowered (blue) {stain} in the outlined tile.",
    )
