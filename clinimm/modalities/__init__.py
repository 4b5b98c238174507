"""The table of modalities. To add one: a folder beside these, and one line here."""

from __future__ import annotations

from importlib import import_module

from clinimm.core.errors import ConfigError, MissingExtraError
from clinimm.modality import Modality

#: Name -> module that exposes ``MODALITY``. Order is the order of reading and of tables.
MODALITIES: dict[str, str] = {
    "ehr": "clinimm.modalities.ehr",
    "notes": "clinimm.modalities.notes",
    "radiology": "clinimm.modalities.radiology",
    "pathology": "clinimm.modalities.pathology",
}


def get_modality(name: str, plugins: tuple[str, ...] = ()) -> Modality:
    """A modality by name.

    Raises:
        ConfigError: the name is unknown; lists those that are known.
        MissingExtraError: its packages are not installed; names the extra.
    """
    known = all_modalities(plugins)
    if name not in known:
        raise ConfigError(f"modality {name!r} is unknown; known are {', '.join(known)}.")
    return known[name]


def all_modalities(plugins: tuple[str, ...] = ()) -> dict[str, Modality]:
    """Every modality of the table and of the pipeline's plug-ins, by name."""
    found = {name: _load(module) for name, module in MODALITIES.items()}
    for module in plugins:
        modality = _load(module)
        found[modality.name] = modality
    return found


def _load(module: str) -> Modality:
    try:
        modality = import_module(module).MODALITY
    except ModuleNotFoundError as error:
        name = module.rpartition(".")[2]
        raise MissingExtraError(
            f"{module} needs {error.name}, which is not installed: pip install 'clinimm[{name}]'."
        ) from error
    except AttributeError as error:
        raise ConfigError(f"plug-in {module} has no MODALITY (see docs/how-to/add-a-modality).") from error
    if not isinstance(modality, Modality):
        raise ConfigError(f"{module}.MODALITY is a {type(modality).__name__}, not a Modality.")
    return modality
