"""A slide with its quality masks drawn on it: a picture, and a page that explains the picture."""

from __future__ import annotations

import base64
import html
import io
import math

import numpy as np
from PIL import Image as Pillow

from clinimm.modalities.pathology.artefacts import Mask, Picture
from clinimm.modalities.pathology.quality import ARTEFACTS, Quality

#: Name -> colour, and what it is called. Colours far from H&E, and told apart by the colour-blind as
#: far as eight can be; pens have the colour of their ink's opposite, or they would not be seen.
_SHOWN: dict[str, tuple[tuple[int, int, int], str]] = {
    "pen_black": ((255, 200, 0), "pen, black"),
    "pen_blue": ((255, 140, 0), "pen, blue"),
    "pen_green": ((230, 0, 230), "pen, green"),
    "pen_red": ((0, 200, 255), "pen, red"),
    "fold": ((0, 60, 255), "fold"),
    "bubble": ((0, 160, 80), "air bubble"),
    "blur": ((120, 120, 120), "out of focus"),
    "near_white": ((255, 255, 255), "near white (glass)"),
}
_USABLE = (20, 20, 20)
_COVER = 0.55  # how much of the picture an artefact hides
_LONGEST = 1600

_STYLE = (
    "body{font:16px/1.45 system-ui,sans-serif;margin:1.5rem;max-width:72rem;color:#1a1a1a;background:#fff}"
    "img{max-width:100%;border:1px solid #999}table{border-collapse:collapse;margin:1rem 0}"
    "th,td{padding:.25rem .8rem;text-align:right;border-bottom:1px solid #ddd}"
    "th:first-child,td:first-child{text-align:left}svg{vertical-align:middle;margin-right:.5rem}"
)


def draw(quality: Quality) -> Picture:
    """The overview, artefacts coloured and usable tissue outlined.

    Glass is left as it is, for all of a slide's rim would be coloured.
    """
    picture = quality.overview.astype(np.float32)
    for name in ARTEFACTS[:-1]:
        mask = quality.artefacts[name]
        picture[mask] = (1 - _COVER) * picture[mask] + _COVER * np.array(_SHOWN[name][0], np.float32)
    picture[_outline(quality.usable)] = _USABLE
    return np.rint(picture).astype(np.uint8)


def picture_png(quality: Quality) -> bytes:
    """The drawing as PNG, its longer side at most 1600 pixels; a small one is enlarged, pixel by pixel."""
    picture = Pillow.fromarray(draw(quality))
    enlarged = max(1, _LONGEST // (2 * max(picture.size)))
    picture = picture.resize((picture.width * enlarged, picture.height * enlarged), Pillow.Resampling.NEAREST)
    picture.thumbnail((_LONGEST, _LONGEST))
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def page(quality: Quality, title: str) -> str:
    """A self-contained HTML page: picture, legend, and each mask's area and shares.

    Args:
        quality: what was found.
        title: what the slide is called; it stands on the page, so no patient's name.
    """
    rows, columns = quality.tissue.shape
    source = base64.b64encode(picture_png(quality)).decode("ascii")
    name = html.escape(title)
    notes = [
        f"Masks: {columns} × {rows} pixels of {quality.um_per_pixel:.2f} µm (n = {rows * columns:,}), "
        f"of which {int(quality.tissue.sum()):,} are tissue.",
        "Focus was judged at 1 µm a pixel in blocks of 64 µm."
        if quality.focus_judged
        else "Focus was not judged: the slide is scanned too coarsely for that.",
        "Masks may overlap. Rules for haematoxylin and eosin: other stains may be taken for ink or folds.",
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<title>Slide quality: {name}</title><style>{_STYLE}</style></head><body>"
        f"<h1>Slide quality: {name}</h1>"
        f'<img alt="The slide with its quality masks" src="data:image/png;base64,{source}">'
        "<table><thead><tr><th>mask</th><th>area, mm²</th><th>of the slide</th><th>of the tissue</th></tr>"
        f"</thead><tbody>{''.join(_rows(quality))}</tbody></table>"
        + "".join(f"<p>{html.escape(note)}</p>" for note in notes)
        + "</body></html>\n"
    )


def lines(quality: Quality) -> list[str]:
    """The same figures for a terminal, one mask a line."""
    return [
        f"{label:<22}{quality.area_mm2(name):>10.2f} mm²{quality.share(name):>9.1%} of slide"
        f"{_percent(quality.tissue_share(name)):>9} of tissue"
        for name, label in _labels()
    ]


def _labels() -> list[tuple[str, str]]:
    return [
        ("tissue", "tissue"),
        ("usable", "usable tissue"),
        *((name, text) for name, (_, text) in _SHOWN.items()),
    ]


def _rows(quality: Quality) -> list[str]:
    return [
        f"<tr><td>{_swatch(name)}{label}</td><td>{quality.area_mm2(name):.2f}</td>"
        f"<td>{quality.share(name):.1%}</td><td>{_percent(quality.tissue_share(name))}</td></tr>"
        for name, label in _labels()
    ]


def _swatch(name: str) -> str:
    """A square of the mask's colour; usable tissue is an outline, tissue as such is not drawn."""
    if name == "tissue":
        return ""
    colour = _SHOWN[name][0] if name in _SHOWN else (255, 255, 255)
    edge = "#141414" if name == "usable" else "#999"
    return (
        f'<svg width="16" height="16"><rect x="1" y="1" width="14" height="14" '
        f'fill="rgb{colour}" stroke="{edge}" stroke-width="2"/></svg>'
    )


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{share:.1%}"


def _outline(mask: Mask) -> Mask:
    from scipy import ndimage

    # Holes of a pixel or two are closed first: outlined one by one they would hide the tissue.
    whole = ndimage.binary_closing(mask, iterations=2) | mask
    return mask & ~ndimage.binary_erosion(whole, border_value=1)
