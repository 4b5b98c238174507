"""A picture beside what moved the answer in it: shown, struck out or left out, with its places in words."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from clinimm.report import figures
from clinimm.report.evidence import Picture
from clinimm.report.facts import RunFacts
from clinimm.report.localised import SizeRow
from clinimm.report.pictures import Shown, show
from clinimm.report.standings import MapState
from clinimm.report.values import attributes_of, is_number
from clinimm.report.words import signed
from clinimm.sources.base import Opener

#: What a tile is read at where the model does not say (``modalities/pathology/encoder.py``).
_TILE_MPP_UM = 0.5
#: Micrometres a pixel at an objective of magnification one, by convention.
_UM_AT_ONE = 10.0


@dataclass(frozen=True)
class Region:
    """One place of a map.

    Attributes:
        rank: 1 is the strongest of its sign.
        where: in words and coordinates of the original.
        score: contribution in logits.
    """

    rank: int
    where: str
    score: float


@dataclass(frozen=True)
class Map:
    """A picture with its overlay, ready for the template.

    Attributes:
        title: its source, and its frame where the file has several.
        original, overlay: drawings; None where the picture cannot be shown, or its map must not be.
        raising, lowering: its strongest places for and against; empty where the map must not be shown.
        origin: what identifies it in the archive, name and value.
        localised: how such maps lie on known findings; empty where none is known.
    """

    picture: Picture
    shown: Shown
    title: str
    state: MapState
    original: Markup | None
    overlay: Markup | None
    raising: tuple[Region, ...]
    lowering: tuple[Region, ...]
    origin: tuple[tuple[str, str], ...]
    localised: tuple[SizeRow, ...] = ()

    @property
    def tiles(self) -> bool:
        """Whether it is a slide."""
        return self.picture.kind == "tile"


def make_map(
    facts: RunFacts, opener: Opener | str, picture: Picture, place: int, side: int, state: MapState
) -> Map:
    """Draw a picture and its map.

    Args:
        facts: the run.
        opener: from ``open_pixels``.
        picture: what is drawn.
        place: its number on the page.
        side: longest side of the picture, pixels.
        state: what the policy lets the page show.
    """
    shown = show(opener, picture.event, picture.kind, side, picture.frame)
    title, name = facts.title(picture.modality), f"pixels-{place}"
    frames: tuple[tuple[str, str], ...] = ()
    if picture.frame is not None and max(shown.frames - 1, picture.frame) > 0:
        title += f", frame {picture.frame + 1}"
        frames = (("Frame", f"{picture.frame + 1} of {shown.frames}"),) if shown.uri else ()
    ranked = () if state.hidden else tuple(_regions(facts, picture, shown.size))
    raising = tuple(region for region in ranked if region.score >= 0)
    lowering = tuple(region for region in ranked if region.score < 0)
    origin = (*shown.origin, *frames, *_slide_facts(facts, picture))
    original = overlay = None
    if shown.uri is not None:
        said = f"{title}, {picture.date}, without overlay."
        original = figures.original(shown.uri, shown.size, name, said)
        if not state.hidden and not picture.blurred:
            overlay = _overlay(picture, shown, name, title, ranked, state)
    return Map(picture, shown, title, state, original, overlay, raising, lowering, origin)


def _overlay(
    picture: Picture, shown: Shown, name: str, title: str, ranked: tuple[Region, ...], state: MapState
) -> Markup:
    said = f"{title} with its map, {picture.date}; contributions total {signed(picture.total)} logits. "
    said += "Struck out: this map failed its checks. " if state.struck else ""
    said += "; ".join(f"{region.where} {signed(region.score)}" for region in ranked[:3])
    if picture.kind == "tile":
        return figures.outlines(picture.strongest, shown.size, name, said, state.struck)
    return figures.overlay(picture.boxes, shown.size, name, said, state.struck)


def _regions(facts: RunFacts, picture: Picture, size: tuple[float, float]) -> list[Region]:
    resolution = _resolution(picture) if picture.kind == "tile" else None
    return [
        Region(rank, _where(box, size, resolution), score)
        for rank, (box, score) in enumerate(picture.strongest, start=1)
    ]


def _where(box: tuple[float, ...], size: tuple[float, float], mpp_um: float | None) -> str:
    """Where a box lies: in words, in pixels of the original, and in micrometres on a slide."""
    left, top, right, bottom = box
    found = f"x {left:.0f} to {right:.0f}, y {top:.0f} to {bottom:.0f} px"
    if mpp_um is not None:
        um = [edge * mpp_um for edge in box]
        found += f" ({um[0]:.0f} to {um[2]:.0f}, {um[1]:.0f} to {um[3]:.0f} µm)"
    if not all(size):
        return found
    across = ("left", "centre", "right")[min(2, int(3 * (left + right) / 2 / size[0]))]
    down = ("upper", "middle", "lower")[min(2, int(3 * (top + bottom) / 2 / size[1]))]
    return f"{down} {across} of the picture, {found}"


def _resolution(picture: Picture) -> float | None:
    stated = attributes_of(picture.event).get("mpp_um")
    return float(stated) if is_number(stated) else None


def _slide_facts(facts: RunFacts, picture: Picture) -> tuple[tuple[str, str], ...]:
    """Magnification of a slide and of its tiles; nothing for other pictures."""
    if picture.kind != "tile":
        return ()
    attributes = attributes_of(picture.event)
    power, mpp = attributes.get("objective_power"), _resolution(picture)
    scanned = f"{mpp:g} µm a pixel" if mpp is not None else "resolution not stated"
    if power is not None:
        scanned += f", {power}× objective"
    modality = ((facts.model or {}).get("modalities") or {}).get(picture.modality) or {}
    encoder = modality.get("encoder")
    options = (encoder.get("options") if isinstance(encoder, dict) else None) or {}
    read = options.get("tile_mpp_um", _TILE_MPP_UM)
    tiles = (
        f"{float(read):g} µm a pixel, about {_UM_AT_ONE / float(read):.3g}×"
        if is_number(read)
        else "not stated"
    )
    return (("Scanned at", scanned), ("Tiles read at", tiles))
