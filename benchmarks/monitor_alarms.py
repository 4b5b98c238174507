"""How often `clinimm monitor` alarms while nothing changed, and how soon it finds what did.

    python benchmarks/monitor_alarms.py [--healthy N] [--planted N] [--months M] [--a-month P] [--size X]
        [--seed S]

A calibrated model with two modalities (numbers and a device, numbers of another), two sexes, and about one
outcome in three. Each stream draws a reference of its own, then months of patients; every month is looked
at by itself, as a hospital that scores an export a month does, and once more all months together. Healthy
streams are judged twice: by the packaged plan, and by one without margins (any surely real change
alarms), which shows whether the alphas are kept or only the margins. Draws of the tests are those of the
packaged plan, but for a smaller embedding sample.

Planted from the third month on: drift of one modality by 0.7 standard deviations, of the other, outcomes
with log odds 1 above what is predicted, log odds 1.5 below what they should be for one sex, a score that no
longer goes with the outcome, a field that goes missing for 35 % more; `--size 0.5` halves each. Delay is in
months, 1 being the first look after the change, until a look breaches in a part that should see it or alarms.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.special import expit

from clinimm.audit.engine.intervals import clopper_pearson
from clinimm.monitor.finding import Finding
from clinimm.monitor.plan import PACKAGED, MonitoringPlan, load_plan
from clinimm.monitor.run import look
from clinimm.monitor.snapshot import ROW_COLUMNS, Snapshot

_REFERENCE = 800
_CHANGE = 2
_DAYS = 30
_START = pd.Timestamp("2025-01-01", tz="UTC")
#: Fault -> parts that should see it.
FAULTS = {
    "drift of ehr": ({"drift"}, {"embeddings"}),
    "drift of image": ({"drift"}, {"embeddings"}),
    "calibration": ({"performance"}, {"cusum"}),
    "gap by sex": ({"gaps"},),
    "link to the outcome gone": ({"performance"}, {"betting"}),
    "field goes missing": ({"quality"},),
}


@dataclass
class Tally:
    """Looks, streams, and what alarmed."""

    looks: int = 0
    alarmed: int = 0
    streams: int = 0
    streams_alarmed: int = 0
    cusum: int = 0
    parts: Counter[str] = field(default_factory=Counter)


def main() -> int:
    """Run, print; 1 where healthy looks alarm surely more often than the plan promises."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--healthy", type=int, default=50)
    options.add_argument("--planted", type=int, default=10)
    options.add_argument("--months", type=int, default=6)
    options.add_argument("--a-month", type=int, default=200)
    options.add_argument("--size", type=float, default=1.0, help="of the planted changes")
    options.add_argument("--seed", type=int, default=1)
    asked = options.parse_args()
    plan = _plan()
    began = time.process_time()
    kept = True
    for name, rules in (("packaged margins", plan), ("no margins", _without_margins(plan))):
        kept &= _healthy(name, rules, asked)
    for fault, parts in FAULTS.items():
        _planted(fault, parts, plan, asked)
    print(f"{time.process_time() - began:.0f} processor seconds")
    return 0 if kept else 1


def draw(
    count: int, generator: np.random.Generator, month: int, fault: str = "", size: float = 1.0
) -> Snapshot:
    """Patients of one month, with a fault or none."""
    sex = generator.choice(["female", "male"], count)
    lactate, crp, opacity = generator.normal(size=(3, count))
    score = -1 + 1.4 * lactate + 0.8 * opacity
    probability, chance = expit(score), expit(score)
    texture, device = generator.normal(size=count), generator.choice(["A", "B"], count).astype(object)
    if fault == "drift of ehr":
        crp = crp + 0.7 * size
    if fault == "drift of image":
        texture = texture + 0.7 * size
    if fault == "calibration":
        chance = expit(score + size)
    if fault == "gap by sex":
        probability = np.where(sex == "female", expit(score - 1.5 * size), probability)
    if fault == "link to the outcome gone":
        chance = (1 - size) * chance + size * generator.permutation(chance)
    crp = np.where(
        generator.random(count) < (0.05 + 0.35 * size * (fault == "field goes missing")), np.nan, crp
    )
    subjects = pd.Index([f"{month}-{number}" for number in range(count)], name="subject_id")
    times = _START + pd.to_timedelta(_DAYS * month + np.sort(generator.random(count)) * _DAYS, unit="D")
    rows = pd.DataFrame(
        {
            "subject_id": subjects,
            "index_time": times,
            "class_name": "outcome",
            "probability": probability,
            "label": (generator.random(count) < chance).astype(float),
            "model_digest": "m",
        }
    )[list(ROW_COLUMNS)]
    fields = {
        "ehr": pd.DataFrame({"lactate": lactate, "crp": crp}, index=subjects),
        "image": pd.DataFrame({"opacity": opacity, "texture": texture, "device": device}, index=subjects),
    }
    name = f"month {month}"
    return Snapshot(name, name, rows, pd.DataFrame({"sex": sex}, index=subjects, dtype=object), fields)


def _together(parts: Sequence[Snapshot]) -> Snapshot:
    fields = {name: pd.concat([one.fields[name] for one in parts]) for name in parts[0].fields}
    rows = pd.concat([one.rows for one in parts], ignore_index=True)
    return Snapshot("all", "all", rows, pd.concat([one.attributes for one in parts]), fields)


def _plan() -> MonitoringPlan:
    plan = load_plan(PACKAGED)
    return plan.model_copy(
        update={
            "threshold": 0.4,
            "label_delay_days": 0.0,
            "embeddings": plan.embeddings.model_copy(update={"most": 200}),
            "estimate": plan.estimate.model_copy(update={"draws": 200}),
            "cusum": plan.cusum.model_copy(update={"run_length": 1000, "streams": 100}),
        }
    )


def _without_margins(plan: MonitoringPlan) -> MonitoringPlan:
    none = {
        "quality": ("missing_growth",),
        "drift": ("smallest",),
        "predictions": ("smallest", "prevalence_change"),
        "performance": ("auroc_loss", "sensitivity_loss", "calibration_gap"),
        "gaps": ("growth",),
        "betting": ("missed_growth", "false_alarm_growth"),
    }
    update = {
        part: getattr(plan, part).model_copy(update=dict.fromkeys(names, 0.0)) for part, names in none.items()
    }
    return plan.model_copy(update=update)


def _healthy(name: str, plan: MonitoringPlan, asked: argparse.Namespace) -> bool:
    tally, together = Tally(), Tally()
    for stream in range(asked.healthy):
        generator = np.random.default_rng([asked.seed, stream])
        reference = draw(_REFERENCE, generator, -30)
        months = [draw(asked.a_month, generator, month) for month in range(asked.months)]
        _count(tally, [look(reference, one, plan).findings for one in months])
        _count(together, [look(reference, _together(months), plan).findings])
    promise = plan.false_alarms
    print(f"\nhealthy, {name}: promised at most {promise:.3f} a look, {asked.months * promise:.2f} a stream")
    print("  each month by itself: " + _said(tally))
    print("  all months together:  " + _said(together))
    low = float(clopper_pearson(np.array(tally.alarmed), np.array(tally.looks), 0.95)[0])
    return low <= promise


def _count(tally: Tally, looks: Sequence[Sequence[Finding]]) -> None:
    alarms = [{one.part for one in findings if one.alarms} for findings in looks]
    tally.looks += len(looks)
    tally.alarmed += sum(map(bool, alarms))
    tally.streams += 1
    tally.streams_alarmed += any(alarms)
    tally.cusum += sum(one.part == "cusum" and one.verdict == "breach" for all_ in looks for one in all_)
    for parts in alarms:
        tally.parts.update(parts)


def _said(tally: Tally) -> str:
    return (
        f"looks {_share(tally.alarmed, tally.looks)}, "
        f"streams {_share(tally.streams_alarmed, tally.streams)}; "
        f"by part {dict(sorted(tally.parts.items()))}; CUSUM charts over (only observed) {tally.cusum}"
    )


def _share(count: int, of: int) -> str:
    low, high = clopper_pearson(np.array(count), np.array(of), 0.95)
    return f"{count}/{of} = {count / of:.3f} ({float(low):.3f} to {float(high):.3f})"


def _planted(fault: str, parts: Sequence[set[str]], plan: MonitoringPlan, asked: argparse.Namespace) -> None:
    own: list[list[int | None]] = [[] for _ in parts]
    any_part: list[int | None] = []
    for stream in range(asked.planted):
        generator = np.random.default_rng([asked.seed, 10_000 + stream])
        reference = draw(_REFERENCE, generator, -30)
        found = [
            look(reference, draw(asked.a_month, generator, month, fault, asked.size), plan).findings
            for month in range(_CHANGE, _CHANGE + asked.months)
        ]
        for seen, names in zip(own, parts, strict=True):
            looks = [any(one.verdict == "breach" and one.part in names for one in all_) for all_ in found]
            seen.append(_first(looks))
        any_part.append(_first([any(one.alarms for one in all_) for all_ in found]))
    print(f"\n{fault}, {asked.size:g} of its size")
    for seen, names in zip(own, parts, strict=True):
        print(f"  a breach in {', '.join(sorted(names))}: {_delay(seen, asked.months)}")
    print(f"  an alarm in any part: {_delay(any_part, asked.months)}")


def _first(found: Sequence[bool]) -> int | None:
    return next((place + 1 for place, one in enumerate(found) if one), None)


def _delay(found: Sequence[int | None], months: int) -> str:
    known = sorted(one for one in found if one is not None)
    said = f"{len(known)} of {len(found)} within {months} months"
    return f"{said}, delay median {np.median(known):g}, longest {known[-1]} months" if known else said


if __name__ == "__main__":
    sys.exit(main())
