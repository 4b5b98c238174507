"""Who trains, who tunes and who is held out. Splits are by subject (law 2).

The result is one long table, ``splits.parquet``: one row a subject, repeat and fold. A single
split has the one fold (0, 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time
from typing import Any

import numpy as np
import pandas as pd

from clinimm.cohort.draw import stratified_folds, stratified_parts
from clinimm.cohort.label import class_counts, label_columns
from clinimm.cohort.spec import CohortSpec
from clinimm.cohort.split_spec import FoldsFileSplit, KFoldSplit, SiteSplit, SubjectSplit, TimeSplit
from clinimm.core.errors import DataError

TRAIN, TUNING, HELD_OUT = _SIDES = ("train", "tuning", "held_out")
UNLABELLED = "unlabelled"
#: A labelled subject that a given folds file does not name: on no side of any fold.
UNUSED = "unused"
CROSS_VALIDATION = "cross_validation"
_KEYS = ["repeat", "fold", "subject_id"]


def split(
    cohort: pd.DataFrame, spec: CohortSpec, seed: int, folds: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Share the cohort out.

    Args:
        cohort: as ``select`` gives it.
        spec: the cohort file.
        seed: of every draw.
        folds: ``subject_id``, ``repeat``, ``fold`` of a given folds file (``folds.read_folds``).

    Returns:
        ``subject_id``, ``repeat``, ``fold``, ``split`` (train, tuning, held_out, unlabelled,
        unused), sorted by repeat, fold and subject.

    Raises:
        DataError: a split would be empty or have one class only, or a site is not in the data.
    """
    labelled = cohort[cohort["labelled"].to_numpy(dtype=bool)].reset_index(drop=True)
    strata = _strata(labelled, label_columns(spec.label))
    rule = spec.split
    if isinstance(rule, SubjectSplit):
        shares = {
            TRAIN: rule.fractions.train,
            TUNING: rule.fractions.tuning,
            HELD_OUT: rule.fractions.held_out,
        }
        sides = stratified_parts(list(labelled["subject_id"]), strata, shares, seed, "split")
        table = _one_fold(labelled, sides)
    elif isinstance(rule, (SiteSplit, TimeSplit)):
        table = _one_fold(labelled, _apart(labelled, strata, rule, seed))
    else:
        assigned = _deal(labelled, strata, rule, seed) if isinstance(rule, KFoldSplit) else folds
        if assigned is None:
            raise DataError("the split follows a folds file, and no folds were given.")
        table = _from_folds(labelled, strata, assigned, rule.tuning_fraction, seed)
    table = _with_the_rest(table, cohort)
    require_one_side(table)
    _require_classes(table, cohort, spec)
    return table


def require_one_side(table: pd.DataFrame) -> None:
    """Refuse a subject that stands on two sides of a fold, or is held out twice in a repeat.

    Raises:
        DataError: it says how many subjects do.
    """
    twice = int(table.duplicated(_KEYS).sum())
    held = table[(table["split"] == HELD_OUT).to_numpy(dtype=bool)]
    again = int(held.duplicated(["repeat", "subject_id"]).sum())
    if twice or again:
        raise DataError(
            f"{twice} subjects are on two sides of a fold and {again} are held out twice in a repeat: the "
            "held-out figures would be too good. Give each subject one fold a repeat."
        )


def cohort_split(table: pd.DataFrame, cohort: pd.DataFrame) -> pd.Series:
    """The ``split`` column of ``cohort.parquet``: the side, or ``cross_validation`` for those who rotate."""
    if len(table[["repeat", "fold"]].drop_duplicates()) == 1:
        return cohort["subject_id"].map(table.set_index("subject_id")["split"]).astype("str")
    first = table.drop_duplicates("subject_id").set_index("subject_id")["split"]
    side = cohort["subject_id"].map(first)
    return side.where(side.isin([UNLABELLED, UNUSED]), CROSS_VALIDATION).astype("str")


def split_summary(table: pd.DataFrame, cohort: pd.DataFrame, spec: CohortSpec) -> dict[str, Any]:
    """The ``split`` of ``flow.json``: sizes and classes of each part, means where there are many folds."""
    rounds = table[["repeat", "fold"]].drop_duplicates()
    merged = table.merge(cohort, on="subject_id", suffixes=("", "_of_cohort"))
    parts = []
    for name in (*_SIDES, UNLABELLED, UNUSED):
        chosen = merged[(merged["split"] == name).to_numpy(dtype=bool)]
        if len(chosen):
            counts = class_counts(chosen, spec.label) if name in _SIDES else {}
            means = {label: round(count / len(rounds), 1) for label, count in counts.items()}
            parts.append({"name": name, "subjects": round(len(chosen) / len(rounds), 1), "classes": means})
    repeats = int(table["repeat"].nunique())
    return {"kind": spec.split.kind, "repeats": repeats, "folds": len(rounds) // repeats, "parts": parts}


def split_warnings(table: pd.DataFrame, cohort: pd.DataFrame, spec: CohortSpec) -> list[str]:
    """What a reader should know about the split."""
    found = []
    unused = int(table.loc[(table["split"] == UNUSED).to_numpy(dtype=bool), "subject_id"].nunique())
    if unused:
        found.append(f"{unused} labelled subjects are not in the folds file and are not used.")
    if isinstance(spec.split, SiteSplit) and (unknown := int(cohort["site_id"].isna().sum())):
        found.append(f"{unknown} subjects have no known site and count as not held out.")
    found += [f"{place} has one class only." for place in _one_class_only(table, cohort, spec)]
    return found


def _strata(labelled: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """One text a subject; subjects with the same text are shared out in proportion."""
    return ["|".join(f"{value:g}" for value in row) for row in labelled[list(columns)].to_numpy(dtype=float)]


def _one_fold(labelled: pd.DataFrame, sides: np.ndarray, repeat: int = 0, fold: int = 0) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "subject_id": labelled["subject_id"],
            "repeat": repeat,
            "fold": fold,
            "split": pd.Series(sides, dtype="str"),
        }
    )


def _apart(labelled: pd.DataFrame, strata: list[str], rule: SiteSplit | TimeSplit, seed: int) -> np.ndarray:
    if isinstance(rule, SiteSplit):
        known = sorted(labelled["site_id"].dropna().unique())
        if absent := sorted(set(rule.held_out) - set(known)):
            raise DataError(
                f"split.held_out names {', '.join(absent)}, and no labelled subject is from there; "
                f"the data hold the sites {', '.join(known) or '(none stated)'}."
            )
        held = labelled["site_id"].isin(rule.held_out).to_numpy(dtype=bool)
    else:
        start = pd.Timestamp(datetime.combine(rule.held_out_from, time(), tzinfo=UTC))
        held = (labelled["index_time"] >= start).to_numpy(dtype=bool)
    return _sides(labelled, strata, held, rule.tuning_fraction, seed, "tuning")


def _sides(
    labelled: pd.DataFrame,
    strata: list[str],
    held: np.ndarray,
    tuning_fraction: float,
    seed: int,
    purpose: str,
) -> np.ndarray:
    """Held out where ``held``; the rest shared between train and tuning."""
    sides = np.full(len(labelled), HELD_OUT, dtype=object)
    rest = np.flatnonzero(~held)
    shares = {TRAIN: 1 - tuning_fraction, TUNING: tuning_fraction}
    ids = list(labelled["subject_id"].iloc[rest])
    sides[rest] = stratified_parts(ids, [strata[row] for row in rest], shares, seed, purpose)
    return sides


def _deal(labelled: pd.DataFrame, strata: list[str], rule: KFoldSplit, seed: int) -> pd.DataFrame:
    ids = list(labelled["subject_id"])
    dealt = [
        pd.DataFrame(
            {
                "subject_id": labelled["subject_id"],
                "repeat": repeat,
                "fold": stratified_folds(ids, strata, rule.folds, seed, f"folds {repeat}"),
            }
        )
        for repeat in range(rule.repeats)
    ]
    return pd.concat(dealt, ignore_index=True)


def _from_folds(
    labelled: pd.DataFrame, strata: list[str], assigned: pd.DataFrame, tuning_fraction: float, seed: int
) -> pd.DataFrame:
    tables = []
    for repeat in sorted(assigned["repeat"].unique()):
        rows = assigned[(assigned["repeat"] == repeat).to_numpy(dtype=bool)]
        fold_of = rows.set_index("subject_id")["fold"]
        own = labelled["subject_id"].map(fold_of)
        named = own.notna().to_numpy(dtype=bool)
        members = labelled[named].reset_index(drop=True)
        member_strata = [text for text, keep in zip(strata, named, strict=True) if keep]
        for fold in sorted(rows["fold"].unique()):
            held = (own[named] == fold).to_numpy(dtype=bool)
            purpose = f"tuning {repeat} {fold}"
            sides = _sides(members, member_strata, held, tuning_fraction, seed, purpose)
            tables.append(_one_fold(members, sides, int(repeat), int(fold)))
    return pd.concat(tables, ignore_index=True)


def _with_the_rest(table: pd.DataFrame, cohort: pd.DataFrame) -> pd.DataFrame:
    """The table with everybody in every fold, those without a side as unlabelled or unused."""
    everybody = (
        table[["repeat", "fold"]].drop_duplicates().merge(cohort[["subject_id", "labelled"]], how="cross")
    )
    full = everybody.merge(table, on=["subject_id", "repeat", "fold"], how="left")
    otherwise = pd.Series(np.where(full["labelled"], UNUSED, UNLABELLED), index=full.index, dtype="str")
    full["split"] = full["split"].fillna(otherwise).astype("str")
    full = full.astype({"repeat": "int32", "fold": "int32"}).sort_values(_KEYS, ignore_index=True)
    return full[["subject_id", "repeat", "fold", "split"]]


def _require_classes(table: pd.DataFrame, cohort: pd.DataFrame, spec: CohortSpec) -> None:
    present = set(table["split"])
    for name in _SIDES:
        if name not in present:
            raise DataError(
                f"the split ({spec.split.kind}) leaves nobody in {name}: change `split` in the cohort file."
            )
    rotating = isinstance(spec.split, (KFoldSplit, FoldsFileSplit))
    hopeless = [
        place for place in _one_class_only(table, cohort, spec) if not rotating or place.startswith(TRAIN)
    ]
    if hopeless:
        raise DataError(
            f"{hopeless[0]} has one class only, so nothing can be learnt or judged there: "
            f"classes in all are {class_counts(cohort, spec.label)}. Change `split` in the cohort file, "
            "or ask about something less rare."
        )


def _one_class_only(table: pd.DataFrame, cohort: pd.DataFrame, spec: CohortSpec) -> list[str]:
    """Names such as ``held_out of repeat 0, fold 3`` of parts in which no two answers differ."""
    if spec.label.kind == "virtual_staining":
        return []  # there the answer is an image
    columns = label_columns(spec.label)
    sided = table[table["split"].isin(_SIDES).to_numpy(dtype=bool)]
    merged = sided.merge(cohort[["subject_id", *columns]], on="subject_id")
    differing = merged.groupby(["split", "repeat", "fold"])[columns].nunique().max(axis=1)
    few = differing.index[(differing < 2).to_numpy(dtype=bool)]
    single = len(table[["repeat", "fold"]].drop_duplicates()) == 1
    return [
        str(side) if single else f"{side} of repeat {repeat}, fold {fold}"
        for side, repeat, fold in sorted(few, key=lambda place: (_SIDES.index(place[0]), *place[1:]))
    ]
