"""What a page may load lies in the package, is what its makers published, and comes with its licence."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from pathlib import Path

import pytest

import clinimm.serve
from clinimm.core.record import digest_bytes
from clinimm.serve.render import environment, static_files

ROOM = Path(clinimm.serve.__file__).parent
#: SHA-256 of ``build/openseadragon/openseadragon.min.js`` of the npm package, without its last line.
OPENSEADRAGON = "4e6fe442742db946dfbe1e748486552078e28ba617412e91b81146443465d2c4"


def test_the_viewer_is_the_published_file_and_its_licence_is_there() -> None:
    assert digest_bytes(static_files()["openseadragon.min.js"][0]) == OPENSEADRAGON
    assert (
        "Redistribution and use in source and binary forms"
        in static_files()["openseadragon.LICENSE.md"][0].decode()
    )


@pytest.mark.parametrize("name", ["app.css", "reports.css", "series.js", "slide.js", "openseadragon.min.js"])
def test_files_have_the_type_that_browsers_insist_on(name: str) -> None:
    content, kind = static_files()[name]
    assert content and kind.startswith("text/css" if name.endswith(".css") else "text/javascript")


@pytest.mark.parametrize("name", ["app.css", "series.js", "slide.js"])
def test_our_files_load_nothing_from_elsewhere(name: str) -> None:
    text = static_files()[name][0].decode()
    assert not re.search(r"https?://|@import|url\(|eval\(|innerHTML|new Function", text)


@pytest.mark.parametrize("path", sorted((ROOM / "templates").glob("*.html")), ids=lambda path: path.name)
def test_templates_have_no_script_and_no_style_of_their_own(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"<script(?! src=\"/static/)|<style|\sstyle=|\son\w+=|\|\s*safe|javascript:", text)
    assert 'method="post"' not in text or 'name="{{ csrf_field }}"' in text
    assert environment().get_template(path.name)


def test_every_file_of_the_room_is_in_the_wheel() -> None:
    project = tomllib.loads((ROOM.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["clinimm"]
    for path in [*(ROOM / "static").iterdir(), *(ROOM / "templates").iterdir()]:
        assert any(fnmatch.fnmatch(path.name, pattern.removeprefix("**/")) for pattern in patterns), path.name
