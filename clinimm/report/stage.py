"""The report stage: the model card, a page for each explained patient, and the page that links them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from clinimm.core.record import write_text
from clinimm.governance.cards.card import CARD_FILE
from clinimm.governance.cards.from_run import audit_file_of
from clinimm.governance.cards.write import documents, load_source, write_documents
from clinimm.progress import Progress
from clinimm.report.facts import RunFacts
from clinimm.report.many import write_pages
from clinimm.report.model_card import model_card
from clinimm.report.page import render
from clinimm.report.subject import read_prediction
from clinimm.workspace import Workspace

#: The folder of texts and owners that the cards are made from; relative to the working folder.
GOVERNANCE = Path("governance")
CARDS = "cards"


def run(workspace: Workspace, progress: Progress) -> dict[str, Any]:
    """Write ``report/model_card.html``, ``report/patients/*.html`` and ``report/index.html``.

    The evidence documents (CHAI card, HTI-1, Annex IV, TRIPOD+AI) go to ``report/cards``, where there is
    an audit and a folder ``governance/`` that says who owes what.

    Whose page cannot be written is listed in ``report/refused.parquet``.
    """
    facts = RunFacts(workspace)
    folder = workspace.stage("report")
    write_text(folder / "model_card.html", model_card(facts))
    chosen = explained_subjects(workspace)[: workspace.config.report.patients]
    pages = write_pages(workspace, chosen, progress)
    refused = pd.DataFrame([vars(page) for page in pages if page.reason], columns=["subject_id", "reason"])
    refused.astype("string").to_parquet(folder / "refused.parquet", index=False)
    rows = [read_prediction(facts, page.subject_id) for page in pages if page.reason is None]
    index = render(
        "index.html",
        facts=facts,
        audit=facts.audit_verdict(),
        fusion=facts.fusion_verdict(),
        audit_page=(workspace.root / "audit" / "audit.html").exists(),
        patients=rows,
    )
    write_text(folder / "index.html", index)
    counts = {"patients": len(rows), "refused": len(refused), "cards": write_cards(workspace, progress)}
    return {**counts, "model_card": "report/model_card.html", "index": "report/index.html"}


def write_cards(workspace: Workspace, progress: Progress) -> int:
    """Write the evidence documents of the run's audit; says how many.

    They are made of the published view where there is one, so that they may leave the house.

    Raises:
        ConfigError: a text or an owner is wrong, with its line.
        DataError: the audit cannot be read.
    """
    audit = audit_file_of(workspace.root)
    if audit is None or not (GOVERNANCE / CARD_FILE).is_file():
        lacking = "audit" if audit is None else f"{GOVERNANCE / CARD_FILE} in the working folder"
        progress.say(f"No evidence documents: there is no {lacking}.")
        return 0
    files = documents(load_source(audit, GOVERNANCE))
    write_documents(workspace.stage("report") / CARDS, files)
    return len(files)


def explained_subjects(workspace: Workspace) -> list[str]:
    """The subjects that the explain stage chose, in order of their pseudonym; none before it ran."""
    path = workspace.root / "explain" / "summary.parquet"
    if not path.exists():
        return []
    return sorted(set(pd.read_parquet(path, columns=["subject_id"])["subject_id"].astype(str)))
