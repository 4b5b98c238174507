"""What known findings say about a release's maps, and standings that heed it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pandas as pd

from clinimm.audit.explanation_policy import ExplanationPolicy
from clinimm.explain.check import Check
from clinimm.explain.standing import judge_map
from clinimm.explain.tables import Explanations

#: A share of fewer pictures is no figure.
_FEWEST_PICTURES = 10
#: Check -> its column of ``localisation.parquet``.
_COLUMNS = {"pointing_game": "hit", "mass_inside": "mass_inside", "iou": "iou"}


def localisation_checks(table: pd.DataFrame) -> dict[str, list[Check]]:
    """Modality -> how its maps lie on known findings, each a mean over pictures.

    Like randomised weights they speak about the release and so about every map of the modality, also of
    pictures on which nobody marked a finding. None where fewer than ten pictures have one.
    """
    return {
        str(name): [Check(check, str(name), float(rows[column].mean())) for check, column in _COLUMNS.items()]
        for name, rows in table.groupby("modality", sort=True)
        if rows["digest"].nunique() >= _FEWEST_PICTURES
    }


def judged_again(
    found: Explanations, release: Mapping[str, Sequence[Check]], policy: ExplanationPolicy
) -> pd.DataFrame:
    """``found.standings`` as they are once the release's figures are held against every map.

    Args:
        found: tables of some subjects.
        release: modality -> checks of the release.
        policy: what a map must show.
    """
    own: dict[tuple[str, str], list[Check]] = {}
    for row in found.checks.to_dict("records"):
        against = None if pd.isna(row["against"]) else float(row["against"])
        check = Check(str(row["check"]), str(row["modality"]), float(row["value"]), against)
        own.setdefault((str(row["subject_id"]), check.modality), []).append(check)
    rows = []
    for known in found.standings.to_dict("records"):
        name = str(known["modality"])
        checks = [*own.get((str(known["subject_id"]), name), ()), *release.get(name, ())]
        standing = judge_map(checks, policy)
        failed = json.dumps(list(standing.failed))
        rows.append(known | {"state": standing.state, "failed": failed, "sentence": standing.sentence})
    return pd.DataFrame(rows, columns=list(found.standings.columns))
