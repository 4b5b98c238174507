"""What the pages of a staining run say: read once, from what the stages left."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from clinimm.core.record import digest_bytes, digest_file
from clinimm.report.facts import RunFacts, Verdict
from clinimm.staining.optical import is_selective
from clinimm.staining.synthetic_training import trained_on_synthetic
from clinimm.staining.table import CELL_AUROC, DICE, METRICS, REGION_CORRELATION
from clinimm.staining.verdict import BARS, CANNOT_TELL, LEARNABLE, NOT_LEARNABLE
from clinimm.workspace import Workspace

#: Each verdict's colour and words; another key counts as not known.
_VERDICTS = {
    LEARNABLE: ("pass", "learnable"),
    NOT_LEARNABLE: ("fail", "not learnable from these data"),
    CANNOT_TELL: ("unsure", "cannot tell"),
}
TITLES: Mapping[str, str] = {
    "psnr": "PSNR",
    "ssim": "SSIM",
    "dice": "Overlap of the stained area (Dice)",
    "region_correlation": "Stain in regions, beyond tissue and nuclei",
    "region_correlation_raw": "Stain in regions, as it is",
    "region_concordance": "Stain in regions, concordance",
    "cell_auroc": "Positive against negative nuclei",
    "cell_correlation": "Stain of nuclei, correlation",
    "count_error": "Error of the number of nuclei",
    "positive_area_error": "Error of the stained area",
    "positivity_error": "Error of the positivity index",
    "h_score_error": "Error of the H-score",
    "fid": "FID, own features",
    "kid": "KID, own features",
}
AGREEMENTS: Mapping[str, str] = {
    "count": "Nuclei in a region",
    "density_per_mm2": "Nuclei per mm²",
    "positive_area": "Stained share of the area",
    "positivity_index": "Positivity index",
    "h_score": "H-score",
}
_HIGHER = {metric.name: metric.higher for metric in METRICS}
_LIMITS = ("bias", "lower", "upper")


@dataclass(frozen=True)
class Line:
    """One measure of every method.

    Attributes:
        name, title, unit: of the measure.
        better: ``higher`` or ``lower``.
        cells: method -> its row of the table, NaN as None.
        against: the best baseline, which the gain is over; None where none was measured.
        gain: the model less ``against`` on the same pairs.
        n: subjects behind the model's figure.
    """

    name: str
    title: str
    unit: str
    better: str
    cells: Mapping[str, Mapping[str, Any]]
    against: str | None
    gain: Mapping[str, Any] | None
    n: int


class StainFacts:
    """A finished staining run, read lazily.

    Args:
        workspace: the run.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.run = RunFacts(workspace)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """``evaluate/metrics.json``.

        Raises:
            MissingStageError: the run was not evaluated yet.
        """
        path = self.workspace.need("evaluate", "metrics.json")
        return dict(json.loads(path.read_text(encoding="utf-8")))

    @property
    def stains(self) -> tuple[str, ...]:
        """The stains that were judged."""
        return tuple(sorted(self.metrics["stains"]))

    @property
    def source(self) -> str:
        """The stain of the slides that the model starts from."""
        return self.workspace.config.staining.source if self.workspace.config.staining else "source"

    @property
    def model(self) -> str:
        """What the model is called in the tables."""
        return str(self.metrics["model"])

    def of(self, stain: str) -> dict[str, Any]:
        """The part of ``metrics.json`` on one stain."""
        return dict(self.metrics["stains"][stain])

    def verdict(self, stain: str) -> Verdict:
        """Whether the stain can be learned, in the evaluation's own words."""
        found = self.of(stain)["verdict"]
        tone, words = _VERDICTS.get(found["key"], ("unsure", str(found["key"])))
        points = list(found.get("warnings") or ())
        if found.get("use") and found["key"] != LEARNABLE:
            points.insert(0, f"What follows the stain as well, and is simpler: {found['use']}.")
        return Verdict(tone, f"{stain}: {words}", str(found["sentence"]), tuple(points))

    @cached_property
    def _table(self) -> pd.DataFrame:
        return pd.read_parquet(self.workspace.need("evaluate", "table.parquet"))

    def methods(self, stain: str) -> tuple[str, ...]:
        """The model, then the baselines, as the table has them."""
        names = self._table.loc[self._table["stain"] == stain, "method"].drop_duplicates()
        rivals = [name for name in names if name != self.model and not self._is_gain(name)]
        return (self.model, *rivals)

    def lines(self, stain: str) -> list[Line]:
        """The measures of a stain, those that decide first."""
        rows = self._table[self._table["stain"] == stain]
        present = [name for name in TITLES if (rows["metric"] == name).any()]
        first = [name for name in self.deciding(stain) if name in present]
        return [
            self._line(rows[rows["metric"] == name], name)
            for name in (*first, *(one for one in present if one not in first))
        ]

    def deciding(self, stain: str) -> tuple[str, ...]:
        """The measures on which the verdict rests."""
        return (REGION_CORRELATION.name, CELL_AUROC.name if is_selective(stain) else DICE.name)

    @staticmethod
    def chance(metric: str) -> float:
        """What a deciding measure is where nothing is known."""
        return BARS[metric].chance

    def _line(self, rows: pd.DataFrame, name: str) -> Line:
        cells = {str(row["method"]): _figure(row) for row in rows.to_dict("records")}
        gains = {method: cell for method, cell in cells.items() if self._is_gain(method)}
        method, gain = next(iter(gains.items()), (None, None))
        own = {method: cell for method, cell in cells.items() if method not in gains}
        mine = own.get(self.model, {})
        return Line(
            name=name,
            title=TITLES[name],
            unit=str(mine.get("unit") or ""),
            better="higher" if _HIGHER.get(name, False) else "lower",
            cells=own,
            against=None if method is None else method.removeprefix(f"{self.model} - "),
            gain=gain,
            n=int(mine.get("n") or 0),
        )

    def _is_gain(self, method: str) -> bool:
        return method.startswith(f"{self.model} - ")

    def agreement(self, stain: str) -> list[dict[str, Any]]:
        """Bias and limits of agreement of each method, a row a quantity and method."""
        rows = self._table[self._table["stain"] == stain]
        found = []
        for column, title in AGREEMENTS.items():
            for method in self.methods(stain):
                own = rows[
                    (rows["method"] == method) & rows["metric"].isin([f"{column}_{end}" for end in _LIMITS])
                ]
                ends = {str(row["metric"]).rpartition("_")[2]: _figure(row) for row in own.to_dict("records")}
                if len(ends) == len(_LIMITS):
                    found.append({"title": title, "method": method, "unit": ends["bias"]["unit"], **ends})
        return found

    def record_adds(self, stain: str) -> list[dict[str, Any]]:
        """What the record changes in each measure: the model less its twin that sees pixels alone."""
        return [
            {
                "title": TITLES.get(name, name),
                "better": "higher" if _HIGHER.get(name, False) else "lower",
                **figure,
            }
            for name, figure in sorted(
                (self.of(stain).get("record_adds") or {}).items(), key=lambda item: _place(item[0])
            )
        ]

    def record_sentence(self, stain: str) -> str:
        """Whether the record was shown to help, in one sentence."""
        rows = [row for row in self.record_adds(stain) if row["low"] is not None and row["high"] is not None]
        if not rows:
            return (
                "No twin that sees pixels alone was trained, or on too few subjects: nobody knows what the "
                "record adds."
            )
        signs = {row["title"]: _shown(row) for row in rows}
        helped, harmed = ([title for title, sign in signs.items() if sign == side] for side in (1, -1))
        if not helped and not harmed:
            return (
                f"On none of {len(rows)} measures does the record change anything that these data can show."
            )
        parts = [f"better on {', '.join(helped)}"] if helped else []
        parts += [f"worse on {', '.join(harmed)}"] if harmed else []
        text = "; ".join(parts)
        return f"With the record: {text} (of {len(rows)} measures, not corrected for looking at several)."

    def refusal_sentence(self, stain: str) -> str:
        """What the thresholds were set to refuse, and what to expect of a person whom they have not seen.

        Empty for a run that did not keep it.
        """
        fits = [one for one in self.of(stain)["safety"].get("refusal") or () if one.get("aim") is not None]
        known = [one["left_out"] for one in fits if one.get("left_out")]
        if not fits:
            return ""
        aim = f"Thresholds refuse at most {fits[0]['aim']:.0%} of the tuning tiles."
        if not known:
            return (
                f"{aim} There is one tuning subject: nobody knows what they refuse of other people's tissue."
            )
        worst = max(known, key=lambda one: float(one["share"]))
        ends = worst["low"], worst["high"]
        interval = "no interval" if None in ends else f"{max(ends[0], 0):.0%} to {min(ends[1], 1):.0%}"
        count = worst["subjects"]
        return (
            f"{aim} Of a tuning subject whom they left out they refuse {worst['share']:.0%} ({interval}, "
            f"n = {count} subjects): expect that of ordinary tissue, or more. This is an estimate, not a "
            f"promise: limits at the largest scores of {count} subjects would still refuse tissue of one new "
            f"person in {count + 1} ({worst['promised']:.0%}) or more, and these limits are stricter."
        )

    @cached_property
    def cautions(self) -> tuple[str, ...]:
        """What must be said of the whole run beside its verdicts."""
        config = self.workspace.root / "train" / "model" / "config.json"
        said = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
        if not trained_on_synthetic(self.workspace.root, said.get("provenance") or {}):
            return ()
        return (
            "This model was trained on synthetic images: what is measured here says nothing of real tissue.",
        )

    @cached_property
    def audit_verdict(self) -> Verdict:
        """What the audit found, or that there was none."""
        audit = self.run.audit
        if not audit:
            return Verdict("fail", "Audit", "This run was not audited. It must not be used for patients.")
        tone = {"passed": "pass", "broken": "fail"}.get(str(audit["verdict"]), "unsure")
        points = [str(row["sentence"]) for row in audit.get("findings", ()) if row.get("verdict") != "passed"]
        text = f"{len(points)} findings." if len(points) > 1 else str(audit["sentence"])
        return Verdict(tone, f"Audit: {audit['verdict']}", text, tuple(points) if len(points) > 1 else ())

    @cached_property
    def groups(self) -> list[dict[str, Any]]:
        """A row a stain, attribute and group: the audit's figures of both measures, by the measure's name."""
        rows: dict[tuple[str, str, str], dict[str, Any]] = {}
        for row in (self.run.audit or {}).get("groups", ()):
            key = (str(row["stain"]), str(row["attribute"]), str(row["group"]))
            found = rows.setdefault(
                key, dict(zip(("stain", "attribute", "group"), key, strict=True)) | {"n": row["n"]}
            )
            found[str(row["measure"])] = row
        return list(rows.values())

    @cached_property
    def model_digest(self) -> str | None:
        """Of the shipped stainer; None where there is none."""
        return self.run.model_digest

    def fit_digest(self, fit: str) -> str | None:
        """Of the stainer of one fold, as ``stainer_digest`` counts it; None where it was not kept."""
        folder = self.workspace.root / "train" / "fits" / fit
        parts = [folder / "config.json", folder / "model.safetensors"]
        if not all(part.is_file() for part in parts):
            return None
        return digest_bytes("".join(digest_file(part) for part in parts).encode("ascii"))


def _figure(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row of the table with None for NaN."""
    return {
        str(key): None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }


def _place(name: str) -> int:
    return list(TITLES).index(name) if name in TITLES else len(TITLES)


def _shown(row: Mapping[str, Any]) -> int:
    """1 where the interval says better, -1 where worse, 0 where it holds zero."""
    sign = 1 if row["better"] == "higher" else -1
    if row["low"] > 0:
        return sign
    return -sign if row["high"] < 0 else 0
