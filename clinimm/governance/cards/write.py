"""All evidence documents of an audit, as bytes: written, or compared with what stands in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from clinimm.core.errors import ConfigError, IntegrityError
from clinimm.core.record import write_bytes
from clinimm.governance.cards.card import CARD_FILE, load_card
from clinimm.governance.cards.chai import chai_card
from clinimm.governance.cards.fill import Source, TestedOn, load_items, tested_on
from clinimm.governance.cards.from_run import run_of, run_texts
from clinimm.governance.cards.pointer import AuditDocument, read_audit
from clinimm.governance.cards.written import as_csv, as_json, as_markdown
from clinimm.governance.owners import OWNERS_FILE, load_owners

CHAI, HTI1, ANNEX_IV, TRIPOD_AI = "chai.xml", "hti1.json", "annex_iv.md", "tripod_ai.csv"


def documents(source: Source) -> dict[str, bytes]:
    """File name -> content; the same audit and texts give the same bytes."""
    return {
        CHAI: chai_card(source),
        HTI1: as_json(load_items("hti1"), source),
        ANNEX_IV: as_markdown(load_items("annex_iv"), source),
        TRIPOD_AI: as_csv(load_items("tripod_ai"), source),
    }


def load_source(
    audit: Path, governance: Path, cards: tuple[Path, ...] = (), stated: TestedOn | None = None
) -> Source:
    """What the documents are made from.

    Args:
        audit: ``audit.json``; where it lies in a run, the run says its own question and inputs.
        governance: folder with ``card.yaml`` and ``owners.yaml``.
        cards: further files of texts; a later one's text replaces an earlier one's.
        stated: what the tested rows are to those of training, where the audit cannot know.

    Raises:
        ConfigError: a file is missing or wrong, with its line.
        DataError: the audit cannot be read.
    """
    document: AuditDocument = read_audit(audit)
    for path in (governance / CARD_FILE, governance / OWNERS_FILE, *cards):
        if not path.is_file():
            raise ConfigError(f"{path}: there is no such file; --governance names the folder.")
    run = run_of(audit)
    own = run_texts(run) if run else {}
    texts = own | load_card([governance / CARD_FILE, *cards])
    owners = load_owners(governance / OWNERS_FILE)
    return Source(document, texts, owners, tested_on(document, stated))


def write_documents(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write every document, whole or not at all."""
    for name, content in files.items():
        write_bytes(folder / name, content)


def check_documents(folder: Path, files: Mapping[str, bytes]) -> None:
    """Compare the documents with what stands in a folder.

    Raises:
        IntegrityError: one is missing or differs; names each.
    """
    wrong = [
        name
        for name, content in files.items()
        if not (folder / name).is_file() or (folder / name).read_bytes() != content
    ]
    if wrong:
        raise IntegrityError(
            f"{folder}: not what this audit and these texts give: {', '.join(wrong)}. "
            "Somebody changed the document, the texts or the audit; write them again."
        )
