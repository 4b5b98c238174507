"""The software bill of materials: which packages, in which versions, a model was made with.

CycloneDX 1.6 (ECMA-424). It holds no time and no random number, so the same installation gives the same
bytes. Packages are those that ``clinimm`` needs here, found through their metadata.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageMetadata, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from clinimm import __version__
from clinimm.core.record import digest_json, write_text

SBOM_NAME = "sbom.cdx.json"
SPEC_VERSION = "1.6"
_PACKAGE = "clinimm"


def write_sbom(path: Path, run: str, model_digest: str) -> None:
    """Write the bill of materials of a run's model.

    Args:
        path: the file.
        run: name of the run.
        model_digest: SHA-256 of its model, hex.
    """
    write_text(path, json.dumps(bill_of_materials(run, model_digest), indent=1, sort_keys=True) + "\n")


@dataclass(frozen=True)
class Package:
    """An installed package, its metadata read once: that takes milliseconds each time.

    Attributes:
        name: as it writes itself.
        version: of it.
        needs: normalised names of what it requires here.
        licences: as CycloneDX writes them.
    """

    name: str
    version: str
    needs: tuple[str, ...]
    licences: tuple[dict[str, Any], ...]

    @property
    def reference(self) -> str:
        """Its package URL."""
        return f"pkg:pypi/{_normalised(self.name)}@{self.version}"

    def component(self) -> dict[str, Any]:
        """It as a CycloneDX component."""
        named = {"name": self.name, "version": self.version}
        found = {"type": "library", "bom-ref": self.reference, "purl": self.reference, **named}
        return {**found, "licenses": list(self.licences)} if self.licences else found


def bill_of_materials(run: str, model_digest: str) -> dict[str, Any]:
    """The bill of materials of a model as a CycloneDX document."""
    packages = installed(_PACKAGE)
    needs = {
        one.reference: sorted({packages[name].reference for name in one.needs if name in packages})
        for _, one in sorted(packages.items())
    }
    made_with = [packages[_PACKAGE].reference] if packages else []
    body = {
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "version": 1,
        "metadata": {"component": _model(run, model_digest)},
        "components": [one.component() for _, one in sorted(packages.items())],
        "dependencies": [
            {"ref": ref, "dependsOn": found} for ref, found in {f"model:{run}": made_with, **needs}.items()
        ],
    }
    # RFC 9562 version 5: the same content has the same number.
    number = uuid.uuid5(uuid.NAMESPACE_URL, digest_json(body))
    return {"serialNumber": number.urn, **body}


def installed(root: str) -> dict[str, Package]:
    """Normalised name -> every package that ``root`` needs and that is installed, itself included.

    Extras count where they are installed: what is there may have been used.
    """
    found: dict[str, Package] = {}
    absent: set[str] = set()  # an extra's, or another platform's
    waiting = [_normalised(root)]
    while waiting:
        name = waiting.pop()
        if name in found or name in absent:
            continue
        try:
            found[name] = _package(distribution(name))
        except PackageNotFoundError:
            absent.add(name)
            continue
        waiting += found[name].needs
    return found


def _package(one: Distribution) -> Package:
    stated = one.metadata
    name = stated["Name"]
    own = _normalised(name) == _PACKAGE
    needs = {
        _normalised(item.name)
        for item in map(Requirement, one.requires or ())
        if _is_wanted(item, own) and _normalised(item.name) != _normalised(name)
    }
    # An editable installation may be older than its source.
    version = __version__ if own else stated["Version"]
    return Package(name, version, tuple(sorted(needs)), _licences(stated))


def _is_wanted(item: Requirement, own: bool) -> bool:
    """Whether a requirement holds here; of extras only our own, but not what develops the package."""
    if item.marker is None or item.marker.evaluate({"extra": ""}):
        return True
    return own and "extra" in str(item.marker) and "dev" not in str(item.marker)


def _licences(stated: PackageMetadata) -> tuple[dict[str, Any], ...]:
    """As the package states them: an SPDX expression (PEP 639), else a short name."""
    if "License-Expression" in stated:
        return ({"expression": stated["License-Expression"]},)
    if "License" not in stated:
        return ()
    name = stated["License"]
    return ({"license": {"name": name}},) if 0 < len(name) < 100 and "\n" not in name else ()


def _model(run: str, model_digest: str) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model:{run}",
        "name": run,
        "hashes": [{"alg": "SHA-256", "content": model_digest}],
    }


def _normalised(name: str) -> str:
    """A package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()
