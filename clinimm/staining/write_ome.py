"""A stained slide as a pyramidal OME-TIFF that viewers of either school can open.

Coarser levels are found in two ways: OME-TIFF 6.0 lists them as sub-directories of the first
directory (tag 330), and plain TIFF readers such as OpenSlide follow the chain of directories, where
each is marked as reduced (tag 254). The same directories serve both.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from jaxtyping import UInt16

from clinimm.core.errors import ConfigError
from clinimm.staining.codec import JPEG_SUBSAMPLING
from clinimm.staining.plan import TILE_PIXELS
from clinimm.staining.pyramid import StoredLevel
from clinimm.staining.whole_slide import CELL_PIXELS, StainedSlide

#: Namespaces of the structured annotations.
FACTS_NAMESPACE = "clinimm/virtual-stain/facts"
MARK_NAMESPACE = "clinimm/virtual-stain/mark"
MANIFEST_NAMESPACE = "clinimm/virtual-stain/manifest"
_OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
_SUB_IFDS = 330
#: Above this many bytes of tiles a classic TIFF's 32-bit offsets could not reach everything.
_CLASSIC_BYTES = 3 << 30
#: How tifffile calls what the codecs make.
_COMPRESSIONS: dict[str, dict[str, Any]] = {
    "jpeg": {"photometric": "ycbcr", "compression": "jpeg", "subsampling": JPEG_SUBSAMPLING},
    "deflate": {"photometric": "rgb", "compression": "zlib"},
}
#: An uncertainty of 1.0, the whole range of a channel, in the uint16 map; 0 stands for "not stained".
UNCERTAINTY_ONE = 65534


def write_ome(stained: StainedSlide, path: Path, facts: dict[str, str], mark: str, manifest: str) -> None:
    """Write a stained slide and its uncertainty map, whole or not at all.

    The second image is the map: uint16, one pixel a cell, ``(value - 1) / 65534`` the expected absolute
    error, 0 where nothing was stained.

    Args:
        stained: what is written.
        path: ends in ``.ome.tif`` or ``.ome.tiff``.
        facts: names and values that a viewer shows, such as the model's digest.
        mark: the line of text that marks it as generated.
        manifest: the signed manifest.

    Raises:
        ConfigError: the tiles are JPEG 2000, which OpenSlide opens in no TIFF but its makers'.
    """
    import tifffile

    if stained.pyramid.codec.name not in _COMPRESSIONS:
        raise ConfigError("OME-TIFF holds tiles as jpeg or deflate, not as jpeg2000: choose one of those.")

    partial = path.with_name(f".{path.name}.partial")
    levels = stained.pyramid.levels
    chart = uncertainty_values(stained)
    description = ome_xml(stained, facts, mark, manifest).encode("utf-8")
    with tifffile.TiffWriter(partial, bigtiff=_size(stained) > _CLASSIC_BYTES, ome=False) as writer:
        for level in levels:
            _write_level(writer, stained, level, description if level.number == 0 else None, mark)
        writer.write(
            chart,
            tile=(TILE_PIXELS, TILE_PIXELS),
            photometric="minisblack",
            compression="zlib",
            description=mark,
            software=False,
            metadata=None,
        )
    link_levels(partial, len(levels))
    partial.replace(path)


def uncertainty_values(stained: StainedSlide) -> UInt16[np.ndarray, "cell_row cell_column"]:
    """The uncertainty map as it is stored; see ``write_ome``."""
    known = ~np.isnan(stained.uncertainty)
    scaled = np.zeros(stained.uncertainty.shape, np.uint16)
    scaled[known] = np.round(np.clip(stained.uncertainty[known], 0, 1) * UNCERTAINTY_ONE) + 1
    return scaled


def _write_level(
    writer: Any, stained: StainedSlide, level: StoredLevel, description: bytes | None, mark: str
) -> None:
    per_centimetre = [10_000 / (um * level.scale) for um in stained.um]
    writer.write(
        stained.pyramid.tiles(level),
        shape=(level.height, level.width, 3),
        dtype=np.uint8,
        tile=(TILE_PIXELS, TILE_PIXELS),
        subfiletype=1 if level.number else 0,
        resolution=(per_centimetre[0], per_centimetre[1]),
        resolutionunit="CENTIMETER",
        description=mark if description is None else description,
        software=False,
        metadata=None,
        **_COMPRESSIONS[stained.pyramid.codec.name],
    )


def _size(stained: StainedSlide) -> int:
    spool, pyramid = stained.pyramid.spool, stained.pyramid
    tables = (spool.table(level.number, band) for level in pyramid.levels for band in range(level.bands))
    return sum(int(table.lengths.sum()) for table in tables)


def ome_xml(stained: StainedSlide, facts: dict[str, str], mark: str, manifest: str) -> str:
    """The OME-XML of the file: two images, their sizes in micrometres, and where they came from."""
    base, cells = stained.pyramid.levels[0], stained.uncertainty.shape
    name = f"{stained.settings.stain} (virtual stain, not a real stain)"
    pairs = "".join(f"<M K={quoteattr(key)}>{escape(value)}</M>" for key, value in facts.items())
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<OME xmlns="{_OME}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="{_OME} {_OME}/ome.xsd" Creator="CliniMM">'
        + _image(0, name, (base.width, base.height), stained.um, "uint8", 0)
        + _image(
            1,
            f"expected absolute error of {stained.settings.stain}",
            (cells[1], cells[0]),
            (stained.um[0] * CELL_PIXELS, stained.um[1] * CELL_PIXELS),
            "uint16",
            len(stained.pyramid.levels),
        )
        + "<StructuredAnnotations>"
        + f'<CommentAnnotation ID="Annotation:0" Namespace="{MARK_NAMESPACE}">'
        + f"<Value>{escape(mark)}</Value></CommentAnnotation>"
        + f'<CommentAnnotation ID="Annotation:1" Namespace="{MANIFEST_NAMESPACE}">'
        + f"<Value>{escape(manifest)}</Value></CommentAnnotation>"
        + f'<MapAnnotation ID="Annotation:2" Namespace="{FACTS_NAMESPACE}">'
        + f"<Value>{pairs}</Value></MapAnnotation>"
        + "</StructuredAnnotations></OME>"
    )


def _image(
    number: int, name: str, size: tuple[int, int], um: tuple[float, float], kind: str, directory: int
) -> str:
    samples = 3 if kind == "uint8" else 1
    return (
        f'<Image ID="Image:{number}" Name={quoteattr(name)}>'
        f'<Pixels ID="Pixels:{number}" DimensionOrder="XYCZT" Type="{kind}" SizeX="{size[0]}" '
        f'SizeY="{size[1]}" SizeZ="1" SizeC="{samples}" SizeT="1" Interleaved="true" '
        f'PhysicalSizeX="{um[0]:.9g}" PhysicalSizeXUnit="µm" '
        f'PhysicalSizeY="{um[1]:.9g}" PhysicalSizeYUnit="µm">'
        f'<Channel ID="Channel:{number}:0" Name={quoteattr(name)} SamplesPerPixel="{samples}"/>'
        f'<TiffData IFD="{directory}" PlaneCount="1"/></Pixels>'
        + "".join(f'<AnnotationRef ID="Annotation:{one}"/>' for one in range(3))
        + "</Image>"
    )


def link_levels(path: Path, levels: int) -> None:
    """List directories 1 to ``levels - 1`` of a TIFF as sub-directories of the first.

    The first directory is written anew at the end of the file, with tag 330 added, and the header
    points to it.
    """
    if levels < 2:
        return
    with path.open("r+b") as file:
        form = _Form.of(file.read(16))
        offsets = [form.first]
        entries: list[bytes] = []
        for number in range(levels):
            content, following = form.directory(file, offsets[-1])
            if number == 0:
                entries = content
            offsets.append(following)
        below = offsets[1:levels]
        position = up_to_word(file.seek(0, 2))
        file.seek(position)
        file.write(struct.pack(f"<{len(below)}{form.offset}", *below))
        value = below[0] if len(below) == 1 else position
        entry = struct.pack(f"<HH{form.offset}{form.offset}", _SUB_IFDS, form.kind, len(below), value)
        entries = sorted([*entries, entry], key=lambda one: struct.unpack_from("<H", one)[0])
        start = up_to_word(file.seek(0, 2))
        file.seek(start)
        file.write(struct.pack(f"<{form.count}", len(entries)) + b"".join(entries))
        file.write(struct.pack(f"<{form.offset}", offsets[1]))
        file.seek(form.first_at)
        file.write(struct.pack(f"<{form.offset}", start))


def up_to_word(position: int) -> int:
    """The next offset on which a directory may start (TIFF 6.0 section 2: word boundary), of eight."""
    return -(-position // 8) * 8


class _Form:
    """How offsets and counts are written in a little-endian TIFF or BigTIFF."""

    def __init__(self, big: bool, first: int) -> None:
        self.offset, self.count = ("Q", "Q") if big else ("I", "H")
        self.kind = 18 if big else 13  # IFD8, IFD
        self.first_at = 8 if big else 4
        self.first = first
        self._entry = 20 if big else 12

    @classmethod
    def of(cls, head: bytes) -> _Form:
        big = head[:4] == b"II+\0"
        (first,) = struct.unpack_from("<Q", head, 8) if big else struct.unpack_from("<I", head, 4)
        return cls(big, first)

    def directory(self, file: Any, offset: int) -> tuple[list[bytes], int]:
        """The entries of a directory, and where the next one is."""
        file.seek(offset)
        (count,) = struct.unpack(f"<{self.count}", file.read(struct.calcsize(f"<{self.count}")))
        entries = [file.read(self._entry) for _ in range(count)]
        (following,) = struct.unpack(f"<{self.offset}", file.read(struct.calcsize(f"<{self.offset}")))
        return entries, following


def ome_texts(description: str) -> Sequence[tuple[str, str]]:
    """The comment annotations of an OME-XML text as (namespace, value)."""
    from xml.etree import ElementTree

    if "<!DOCTYPE" in description:
        return ()
    try:
        root = ElementTree.fromstring(description)  # noqa: S314  # no document type, so no entities
    except ElementTree.ParseError:
        return ()
    return [
        (one.get("Namespace", ""), one.findtext(f"{{{_OME}}}Value", ""))
        for one in root.iter(f"{{{_OME}}}CommentAnnotation")
    ]
