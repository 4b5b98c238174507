"""The model card: what the model is for, how well it works, for whom not, and how to make it again.

Follows Mitchell et al. 2019 (arXiv:1810.03993), with every figure beside its n and its interval.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from clinimm.audit.groups import OVERALL
from clinimm.cohort.explain import flow_svg
from clinimm.core.record import digest_bytes
from clinimm.report.facts import RunFacts, Verdict, estimate_text
from clinimm.report.figures import interval_bar
from clinimm.report.groups import GIVES_AWAY, TOO_FEW, audit_rows
from clinimm.report.limitations import limitations
from clinimm.report.markdown import to_html
from clinimm.report.page import data_uri, render

#: A text that people wrote about what the model is for; relative to the working folder.
INTENDED_USE = Path("governance/intended-use.md")

#: Figure -> alternative text; others are shown under their file name.
_FIGURES = {
    "roc": "Receiver operating characteristic of the fused model and its simpler rivals.",
    "calibration": "Calibration: observed share of outcomes against predicted probability.",
    "subsets": "AUROC of every subset of sources with its interval.",
    "net_benefit": "Net benefit over thresholds against flagging everybody and nobody.",
}
_METRICS = {
    "auroc": "AUROC (0.5 chance, 1 perfect)",
    "auprc": "AUPRC",
    "brier": "Brier score (lower is better)",
    "log_loss": "Log loss (lower is better)",
    "ece": "Calibration error (ECE)",
    "calibration_slope": "Calibration slope (1 is right)",
    "calibration_intercept": "Calibration intercept (0 is right)",
    "sensitivity": "Sensitivity at the operating point",
    "specificity": "Specificity at the operating point",
    "ppv": "Positive predictive value",
    "npv": "Negative predictive value",
    "net_benefit": "Net benefit at the operating point",
}
_GROUP_METRICS = {"auroc": "AUROC", "fnr": "Missed (FNR)", "fpr": "False alarms (FPR)"}


def model_card(facts: RunFacts) -> str:
    """The page as text; equal runs give equal bytes."""
    return render(
        "model_card.html",
        facts=facts,
        intended=intended_use(),
        registration=registration_verdict(facts),
        audit=facts.audit_verdict("withheld"),
        fusion=facts.fusion_verdict(),
        flow=None if facts.flow is None else _picture(flow_svg(facts.flow).encode("utf-8")),
        metrics=facts.metrics,
        metric_titles=_METRICS,
        group_titles=_GROUP_METRICS,
        pictures=_figures(facts),
        groups=_groups(facts),
        too_few=TOO_FEW,
        gives_away=GIVES_AWAY,
        limitations=limitations(facts),
        encoders=_encoders(facts),
        training=_training(facts),
        stages=_stages(facts),
        refusals=_refusals(facts),
        estimate=estimate_text,
        bars=interval_bar,
    )


def intended_use() -> tuple[Markup, str] | None:
    """The text of ``governance/intended-use.md`` as HTML and its SHA-256, where there is one."""
    if not INTENDED_USE.is_file():
        return None
    content = INTENDED_USE.read_bytes()
    text = content.decode("utf-8", errors="replace")
    return to_html(text), digest_bytes(content)


def registration_verdict(facts: RunFacts) -> Verdict:
    """Whether the model is registered, in the words of the gate."""
    found = facts.registration
    if not found:
        return Verdict("unsure", "Not registered", "This run's model stands in no registry.")
    sentence = str(found.get("sentence") or "")
    return Verdict("pass" if found.get("candidate") else "unsure", "Registry", sentence)


def _figures(facts: RunFacts) -> list[tuple[str, str]]:
    """Address and alternative text of each figure that the evaluation drew."""
    folder = facts.root / "evaluate" / "figures"
    paths = sorted(folder.glob("*.svg"), key=lambda path: (_rank(path.stem), path.stem))
    return [
        (_picture(path.read_bytes()), _FIGURES.get(path.stem, path.stem.replace("_", " "))) for path in paths
    ]


def _rank(name: str) -> int:
    return list(_FIGURES).index(name) if name in _FIGURES else len(_FIGURES)


def _picture(svg: bytes) -> str:
    """An SVG as an image: its own document, in which nothing runs."""
    return data_uri(svg, "image/svg+xml")


def _groups(facts: RunFacts) -> list[dict[str, Any]]:
    """The audit's table, class by class, without what would tell of a small group: a card goes about."""
    found = []
    for part in (facts.audit or {}).get("tested", {}).get("classes", ()):
        rows = audit_rows(facts, part["class_name"], "withheld")
        found.append(
            {
                "class_name": part["class_name"],
                "rows": [row for row in rows if row["attribute"] != OVERALL],
                "overall": next((row for row in rows if row["attribute"] == OVERALL), None),
            }
        )
    return found


def _encoders(facts: RunFacts) -> list[dict[str, Any]]:
    """Each modality of the model and what turns it into tokens."""
    index = facts.encoded
    rows = []
    for name, config in ((facts.model or {}).get("modalities") or {}).items():
        seen = index.get(name, {})
        encoder = seen.get("encoder") or (config.get("encoder") or {}).get("name") or "default"
        blocks = (config.get("encoder") or {}).get("fine_tune_blocks", 0)
        rows.append(
            {
                "title": facts.title(name),
                "encoder": encoder if isinstance(encoder, str) else str(encoder.get("name", encoder)),
                "trained": "frozen" if not blocks else f"last {blocks} blocks trained",
                "subjects": seen.get("subjects"),
                "rows": seen.get("rows"),
            }
        )
    return rows


def _training(facts: RunFacts) -> dict[str, Any]:
    """Network, training and provenance as flat name -> value."""
    model = facts.model or {}
    record = facts.record("train")
    settings = (record.config.get("train") if record else None) or {}
    parts = {"network": model.get("model"), "training": settings, "fit": model.get("provenance")}
    return {
        f"{part}: {key.replace('_', ' ')}": value
        for part, values in parts.items()
        for key, value in (values or {}).items()
        if isinstance(value, (str, int, float, bool))
    }


def _stages(facts: RunFacts) -> list[dict[str, Any]]:
    """What each finished stage says about how it was made.

    Times stand in ``record.json`` and not here, so that a page depends on its content alone.
    """
    found = []
    for stage in (
        "ingest",
        "cohort",
        "encode",
        "train",
        "predict",
        "evaluate",
        "explain",
        "audit",
        "register",
    ):
        record = facts.record(stage)
        if record is not None:
            found.append(
                {
                    "stage": stage,
                    "code": record.code_version,
                    "seed": record.seed,
                    "inputs": len(record.inputs),
                    "outputs": len(record.outputs),
                }
            )
    return found


def _refusals(facts: RunFacts) -> list[tuple[str, int]]:
    """Reason and count, most frequent first."""
    if facts.refusals is None or facts.refusals.empty:
        return []
    counts = facts.refusals["code"].value_counts()
    return sorted(
        ((str(code), int(count)) for code, count in counts.items()), key=lambda row: (-row[1], row[0])
    )
