"""Pages and files of pictures: series to scroll through, slides to zoom into."""

from __future__ import annotations

import time

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from clinimm.serve.answers import page_response
from clinimm.serve.catalogue import ServedRun
from clinimm.serve.errors import not_found
from clinimm.serve.guard import picture_key
from clinimm.serve.office import office_of, served_of, session_of
from clinimm.serve.render import render
from clinimm.serve.study import Study

router = APIRouter(include_in_schema=False)
_PATIENT = "/runs/{run}/patients/{subject}"


@router.get(_PATIENT + "/series/{name}")
def series(request: Request, run: str, subject: str, name: str) -> Response:
    """A series to scroll through."""
    served, study = _study(request, subject)
    found = study.find_series(name)
    _open(request)
    return page_response(
        render(request, "series.html", run=served, answer=served.answer(subject), series=found)
    )


@router.get(_PATIENT + "/series/{name}/{index}.png")
def slice_file(request: Request, run: str, subject: str, name: str, index: int) -> Response:
    """One picture of a series."""
    served, study = _study(request, subject)
    content = office_of(request).pictures.slice_png(served, study.find_series(name), index)
    return Response(content, media_type="image/png")


@router.get(_PATIENT + "/slides/{name}.dzi")
def descriptor(request: Request, run: str, subject: str, name: str) -> Response:
    """The pyramid of a slide."""
    served, study = _study(request, subject)
    pyramid = office_of(request).pictures.pyramid(served, study.find_slide(name))
    return Response(pyramid.descriptor(), media_type="application/xml")


@router.get(_PATIENT + "/slides/{name}_files/{level}/{tile}.jpeg")
def tile_file(request: Request, run: str, subject: str, name: str, level: int, tile: str) -> Response:
    """One tile of a slide; ``tile`` is ``column_row``."""
    served, study = _study(request, subject)
    column, _, row = tile.partition("_")
    if not (column.isdecimal() and row.isdecimal() and len(tile) < 16):
        raise not_found("tile")
    slide = study.find_slide(name)
    content = office_of(request).pictures.tile(served, slide, level, int(column), int(row))
    return Response(content, media_type="image/jpeg")


@router.get(_PATIENT + "/slides/{name}")
def slide(request: Request, run: str, subject: str, name: str) -> Response:
    """A slide to zoom into."""
    served, study = _study(request, subject)
    found = study.find_slide(name)
    pyramid = office_of(request).pictures.pyramid(served, found)
    _open(request)
    return page_response(
        render(request, "slide.html", run=served, answer=served.answer(subject), slide=found, pyramid=pyramid)
    )


def _study(request: Request, subject: str) -> tuple[ServedRun, Study]:
    served = served_of(request)
    return served, office_of(request).pictures.study(served, subject)


def _open(request: Request) -> None:
    """From now, and for a while, the files of this picture may be asked for."""
    session_of(request).opened[picture_key(request)] = time.monotonic()
