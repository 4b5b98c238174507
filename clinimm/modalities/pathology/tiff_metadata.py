"""What a TIFF file says about a slide besides its pixels: vendor, resolution, properties.

A resolution is taken from where a scanner writes it: Aperio's ``MPP``, OME's ``PhysicalSizeX`` with its
unit, ImageJ's ``unit=micron``, or the resolution tags where they can be a scanner's. The tags of a
picture editor (72 dpi, no unit) are none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.parsers import expat

from clinimm.modalities.pathology.resolution import Resolution, believable
from clinimm.modalities.pathology.tiff_directory import Directory, Tag, corrupt

_UM_PER_UNIT = {2: 25_400.0, 3: 10_000.0}  # TIFF 6.0, ResolutionUnit: inch, centimetre; 1 is no unit
_INCH = 2  # the default where the tag is absent
#: Units of length of the OME schema, micrometres each; ``pixel`` and ``reference frame`` are none.
_OME_UNITS = {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "pm": 1e-6} | {
    "Å": 1e-4, "in": 25_400.0, "inch": 25_400.0
}  # fmt: skip
_IMAGEJ_MICRONS = re.compile(r"^unit=(micron|microns|um|µm|\\u00B5m)\s*$", re.MULTILINE)
_OTHER_IMAGES = re.compile(r"\b(label|macro|overview|thumbnail)\b", re.IGNORECASE)
_HAMAMATSU_TAG = 65420


def vendor_of(page: Directory) -> str:
    """Whose TIFF it is, by its first directory; names that OpenSlide uses where it knows the format."""
    description = page.text(Tag.DESCRIPTION)
    if description.startswith("Aperio"):
        return "aperio"
    if description.rstrip().endswith(("</OME>", "</ome>")):
        return "ome-tiff"
    if _HAMAMATSU_TAG in page.fields or page.text(Tag.MAKE).startswith("Hamamatsu"):
        return "hamamatsu"
    if "<scn " in description[:4096]:
        return "leica"
    if b"iScan" in page.content(Tag.XMP)[:65536]:
        return "ventana"
    software = page.text(Tag.SOFTWARE)
    for name, start in (("philips", "Philips"), ("trestle", "MedScan")):
        if software.startswith(start):
            return name
    return "generic-tiff"


def tiff_resolution(page: Directory) -> Resolution | None:
    """From XResolution, YResolution and ResolutionUnit, where they can be a scanner's."""
    per_unit = page.rational(Tag.X_RESOLUTION), page.rational(Tag.Y_RESOLUTION)
    if not (per_unit[0] > 0 and per_unit[1] > 0):
        return None
    description = page.text(Tag.DESCRIPTION)
    if description.startswith("ImageJ=") and _IMAGEJ_MICRONS.search(description):
        return believable(1 / per_unit[0], 1 / per_unit[1])
    unit = _UM_PER_UNIT.get(page.number(Tag.RESOLUTION_UNIT, _INCH))
    return None if unit is None else believable(unit / per_unit[0], unit / per_unit[1])


def tiff_properties(page: Directory) -> dict[str, str]:
    """The tags that a reader asks for, by OpenSlide's names."""
    found = {
        "tiff.DateTime": page.text(Tag.DATE_TIME),
        "tiff.Software": page.text(Tag.SOFTWARE),
        "tiff.Make": page.text(Tag.MAKE),
    }
    return {name: text for name, text in found.items() if text}


def aperio_properties(description: str) -> dict[str, str]:
    """The ``|name = value`` list of Aperio's image description.

    >>> aperio_properties("Aperio Image Library v11\\r\\n4x4 JPEG|AppMag = 20|MPP = 0.4990")
    {'aperio.AppMag': '20', 'aperio.MPP': '0.4990', 'openslide.objective-power': '20'}
    """
    found = {}
    for part in description.split("|")[1:]:
        name, equals, value = part.partition("=")
        if equals:
            found[f"aperio.{name.strip()}"] = value.strip()
    if "aperio.AppMag" in found:
        found["openslide.objective-power"] = found["aperio.AppMag"]
    return found


def aperio_resolution(properties: Mapping[str, str]) -> Resolution | None:
    """Aperio's ``MPP``, micrometres a pixel in both directions."""
    try:
        value = float(properties.get("aperio.MPP", "nan"))
    except ValueError:
        return None
    return believable(value, value)


class OmeImage:
    """One ``Image`` of OME-XML.

    Attributes:
        name: as written; ``label image`` and ``macro image`` are what converters call the others.
        pixels: attributes of its ``Pixels``.
        first_ifd: directory of its first plane.
        channel_samples: samples a pixel of each channel.
        file_names: other files that planes are said to lie in.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.pixels: dict[str, str] = {}
        self.first_ifd: int | None = None
        self.channel_samples: list[int] = []
        self.file_names: set[str] = set()

    @property
    def is_slide(self) -> bool:
        """Whether it is not the photograph of the label or of the whole glass."""
        return not _OTHER_IMAGES.search(self.name)

    @property
    def planes(self) -> int:
        """Directories that it takes: one for each depth, time and channel (of several samples)."""
        depth_and_time = self._count("SizeZ") * self._count("SizeT")
        return depth_and_time * max(1, len(self.channel_samples))

    def _count(self, name: str) -> int:
        text = self.pixels.get(name, "1")
        return int(text) if text.isdigit() and len(text) < 8 else 1

    @property
    def resolution(self) -> Resolution | None:
        """PhysicalSizeX and PhysicalSizeY in their units; micrometres where no unit is written."""
        sizes = []
        for axis in "XY":
            unit = _OME_UNITS.get(self.pixels.get(f"PhysicalSize{axis}Unit", "µm"))
            try:
                sizes.append(float(self.pixels.get(f"PhysicalSize{axis}", "nan")) * (unit or float("nan")))
            except ValueError:
                return None
        return believable(*sizes)


def ome_images(xml: str) -> list[OmeImage]:
    """The images of OME-XML in order.

    Raises:
        InputRejected: ``corrupt-header``, it is no XML, or declares entities of its own.
    """
    images: list[OmeImage] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(":")[2]
        if name == "Image":
            images.append(OmeImage(attributes.get("Name", "")))
        elif images and name == "Pixels":
            images[-1].pixels = dict(attributes)
        elif images and name == "Channel":
            samples = attributes.get("SamplesPerPixel", "1")
            images[-1].channel_samples.append(int(samples) if samples.isdigit() else 1)
        elif images and name == "TiffData" and images[-1].first_ifd is None:
            ifd = attributes.get("IFD", "")
            images[-1].first_ifd = int(ifd) if ifd.isdigit() and len(ifd) < 8 else None
        elif images and name == "UUID" and attributes.get("FileName"):
            images[-1].file_names.add(attributes["FileName"])

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EntityDeclHandler = _refuse_entity
    try:
        parser.Parse(xml.encode("utf-8"), True)
    except expat.ExpatError as error:
        raise corrupt(f"the OME-XML is no XML: {error}") from error
    return images


def _refuse_entity(*_: object) -> None:
    raise corrupt("the OME-XML declares entities, by which a small text can grow without end")
