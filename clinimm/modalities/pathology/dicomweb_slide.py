"""A slide on a DICOMweb server: its frames are fetched when they are looked at, by wsidicom's web client.

QIDO-RS finds the instances, WADO-RS gives metadata and frames (PS3.18). Instances of the label, the
macro and the thumbnail picture are left out before anything asks for a frame of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.uid import UID
from requests import RequestException, Session
from wsidicom import Settings, WsiDicom, WsiDicomWebClient
from wsidicom.errors import (
    WsiDicomError,
    WsiDicomFileError,
    WsiDicomMatchError,
    WsiDicomNotFoundError,
    WsiDicomNotSupportedError,
    WsiDicomOutOfBoundsError,
    WsiDicomStrictRequirementError,
    WsiDicomUidDuplicateError,
)
from wsidicom.geometry import Point
from wsidicom.instance import ImageData

from clinimm.core.errors import InputRejected
from clinimm.modalities.pathology.pixels import Level, Rgb, SlideInfo, shrinking
from clinimm.modalities.pathology.resolution import Resolution, believable
from clinimm.modalities.pathology.slide import CACHE_MIB, Slide
from clinimm.modalities.pathology.tiled import TiledPixels

_VOLUME = "VOLUME"
#: What wsidicom and the HTTP client raise where a server or a series is not as it should be.
_FAILURES = (
    RequestException,
    StopIteration,  # no frame came
    ValueError,  # a response that is not what was asked for
    WsiDicomError,
    WsiDicomFileError,
    WsiDicomMatchError,
    WsiDicomNotFoundError,
    WsiDicomNotSupportedError,
    WsiDicomOutOfBoundsError,
    WsiDicomStrictRequirementError,
    WsiDicomUidDuplicateError,
)
#: Requests for the same thing where the server is busy or away; the wait doubles each time.
_ATTEMPTS, _FIRST_WAIT_MS = 4, 250
_CHECK = "check that the server is reachable, lets you in, and holds the series"


def open_dicomweb(
    url: str,
    study_uid: str,
    series_uid: str,
    resolution: Resolution | None = None,
    session: Session | None = None,
    cache_mib: float = CACHE_MIB,
) -> Slide:
    """Open a slide on a server.

    Args:
        url: of the DICOMweb service, such as ``https://pacs.example/dicom-web``.
        study_uid, series_uid: of the slide.
        resolution: of level 0, used only where the series states none.
        session: with the credentials that the server asks for.
        cache_mib: most that decoded tiles take which were used in part, MiB.

    Raises:
        InputRejected: ``cannot-open``, the server or the series is not there; ``not-a-slide``;
            ``bit-depth``.
    """
    with _refusing("cannot-open"):
        server = DICOMwebClient(url, session=session)
        server.set_http_retry_params(max_attempts=_ATTEMPTS, wait_exponential_multiplier=_FIRST_WAIT_MS)
        client = _VolumesOnly(server)
        settings = Settings(decoded_frame_cache_size=0, encoded_frame_cache_size=0)
        wsi = WsiDicom.open_web(client, study_uid, series_uid, settings=settings)
        properties = {"dicom.StudyInstanceUID": study_uid, "dicom.SeriesInstanceUID": series_uid}
        return Slide(_pixels(wsi, properties, int(cache_mib * (1 << 20))), resolution)


class _VolumesOnly(WsiDicomWebClient):
    """A client that knows only the instances of the pyramid."""

    def __init__(self, client: DICOMwebClient) -> None:
        super().__init__(client)
        self._metadata: dict[UID, Dataset] = {}

    def get_wsi_instances(
        self, study_uid: UID, series_uids: Iterable[UID]
    ) -> Iterator[tuple[UID, UID, set[UID] | None]]:
        """Series, instance and transfer syntaxes of each instance whose Image Type is VOLUME."""
        for series_uid, instance_uid, syntaxes in super().get_wsi_instances(study_uid, series_uids):
            image_type = self.get_instance(study_uid, series_uid, instance_uid).get("ImageType", [])
            if len(image_type) > 2 and image_type[2] == _VOLUME:
                yield series_uid, instance_uid, syntaxes

    def get_instance(self, study_uid: UID, series_uid: UID, instance_uid: UID) -> Dataset:
        """Metadata of an instance, asked for once."""
        if instance_uid not in self._metadata:
            self._metadata[instance_uid] = super().get_instance(study_uid, series_uid, instance_uid)
        return self._metadata[instance_uid]


@dataclass(frozen=True)
class WebTiles:
    """The tiles of one level of a slide on a server."""

    image: ImageData

    def tile(self, column: int, row: int) -> Rgb | None:
        """A tile, fetched and decoded.

        Raises:
            InputRejected: ``cannot-read``, the server does not give it, or it is damaged.
        """
        with _refusing("cannot-read"):
            pixels = self.image.get_decoded_tile(
                Point(column, row), self.image.default_z, self.image.default_path, cache=False
            )
        return np.stack([pixels] * 3, axis=-1) if pixels.ndim == 2 else np.asarray(pixels)


def _pixels(wsi: WsiDicom, properties: Mapping[str, str], cache_bytes: int) -> TiledPixels:
    pictures = [level.default_instance.image_data for level in wsi.pyramid]
    base = pictures[0]
    if base.bits != 8:
        raise InputRejected(
            "bit-depth",
            f"the values have {base.bits} bits; expected 8",
            "export the slide with 8 bits a channel",
        )
    levels = tuple(_level(image, base) for image in pictures)
    spacing = base.pixel_spacing
    resolution = None if spacing is None else believable(spacing.width * 1000, spacing.height * 1000)
    width, height = base.image_size.width, base.image_size.height
    info = SlideInfo(width, height, levels, resolution, "dicom", properties)
    return TiledPixels(info, tuple(WebTiles(image) for image in pictures), cache_bytes, wsi.close)


def _level(image: ImageData, base: ImageData) -> Level:
    size, tile, whole = image.image_size, image.tile_size, base.image_size
    downsample = shrinking(size.width, size.height, whole.width, whole.height)
    if downsample is None:
        raise InputRejected(
            "not-a-slide",
            f"pictures of {whole.width} x {whole.height} and {size.width} x {size.height} pixels "
            "in one series are not levels of one slide",
            "export one slide to a series of its own",
        )
    return Level(size.width, size.height, downsample, tile.width, tile.height)


@contextmanager
def _refusing(code: str) -> Iterator[None]:
    """What the clients raise, as a refusal with ``code``."""
    try:
        yield
    except _FAILURES as error:
        reason = f"the slide on the server does not open or read: {type(error).__name__} {error}"
        raise InputRejected(code, reason, _CHECK) from error
