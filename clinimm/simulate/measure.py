"""Vitals and laboratory values of a simulated patient, with the times at which they were known.

One ``Measurement`` is one FHIR Observation: a value in the unit of the site that took it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from clinimm.simulate.subject import Subject

CRP = "1988-5"
LACTATE = "2524-7"
PROCALCITONIN = "33959-8"
TEMPERATURE = "8310-5"

#: Median and standard deviation of the logarithm of C reactive protein, mg/L, by ``inflamed``.
CRP_MG_PER_L = {False: (6.0, 0.45), True: (140.0, 0.40)}
#: The same of procalcitonin, ng/mL, by ``late``.
PROCALCITONIN_NG_PER_ML = {False: (0.08, 0.40), True: (6.0, 0.45)}


@dataclass(frozen=True)
class Analyte:
    """Something that is measured.

    Attributes:
        code: LOINC code.
        display: LOINC's long common name.
        category: FHIR observation category, ``laboratory`` or ``vital-signs``.
        unit: UCUM.
        centre, spread: mean and standard deviation of usual values in ``unit``.
        decimals: as reported.
        reference: low and high of the reference range in ``unit``, or None.
        other_unit: UCUM unit that some sites use, or None; ``value * scale + offset``.
    """

    code: str
    display: str
    category: str
    unit: str
    centre: float
    spread: float
    decimals: int
    reference: tuple[float, float] | None = None
    other_unit: str | None = None
    scale: float = 1.0
    offset: float = 0.0


def _lab(code: str, display: str, unit: str, usual: tuple[float, float, int], **more: object) -> Analyte:
    return replace(Analyte(code, display, "laboratory", unit, *usual), **more)  # type: ignore[arg-type]  # fields


def _vital(code: str, display: str, unit: str, usual: tuple[float, float, int], **more: object) -> Analyte:
    return replace(Analyte(code, display, "vital-signs", unit, *usual), **more)  # type: ignore[arg-type]  # fields


LABS: tuple[Analyte, ...] = (
    _lab(
        CRP,
        "C reactive protein [Mass/volume] in Serum or Plasma",
        "mg/L",
        (6, 2, 1),
        reference=(0.0, 10.0),
        other_unit="mg/dL",
        scale=0.1,
    ),
    _lab(
        "6690-2",
        "Leukocytes [#/volume] in Blood by Automated count",
        "10*3/uL",
        (8.5, 2.0, 1),
        reference=(4.0, 11.0),
    ),
    _lab(
        "718-7",
        "Hemoglobin [Mass/volume] in Blood",
        "g/dL",
        (13.2, 1.5, 1),
        reference=(12.0, 17.0),
        other_unit="g/L",
        scale=10.0,
    ),
    _lab(
        "2160-0",
        "Creatinine [Mass/volume] in Serum or Plasma",
        "mg/dL",
        (1.0, 0.25, 2),
        reference=(0.6, 1.3),
        other_unit="umol/L",
        scale=88.42,
    ),
    _lab(
        "2345-7",
        "Glucose [Mass/volume] in Serum or Plasma",
        "mg/dL",
        (118, 25, 0),
        reference=(70.0, 110.0),
        other_unit="mmol/L",
        scale=0.05551,
    ),
    _lab(
        "2951-2",
        "Sodium [Moles/volume] in Serum or Plasma",
        "mmol/L",
        (139, 3, 0),
        reference=(135.0, 145.0),
    ),
)
LACTATE_ANALYTE = _lab(
    LACTATE,
    "Lactate [Moles/volume] in Serum or Plasma",
    "mmol/L",
    (1.4, 0.4, 1),
    reference=(0.5, 2.2),
)
PROCALCITONIN_ANALYTE = _lab(
    PROCALCITONIN,
    "Procalcitonin [Mass/volume] in Serum or Plasma",
    "ng/mL",
    (0.1, 0.03, 2),
    reference=(0.0, 0.5),
)
VITALS: tuple[Analyte, ...] = (
    _vital("8867-4", "Heart rate", "/min", (86, 13, 0)),
    _vital("9279-1", "Respiratory rate", "/min", (18, 3, 0)),
    _vital("59408-5", "Oxygen saturation in Arterial blood by Pulse oximetry", "%", (95.5, 1.6, 0)),
    _vital(
        TEMPERATURE,
        "Body temperature",
        "Cel",
        (37.2, 0.5, 1),
        other_unit="[degF]",
        scale=1.8,
        offset=32.0,
    ),
)
WEIGHT = _vital("29463-7", "Body weight", "kg", (78, 14, 1), other_unit="[lb_av]", scale=2.20462)
SYSTOLIC = _vital("8480-6", "Systolic blood pressure", "mm[Hg]", (131, 17, 0))
DIASTOLIC = _vital("8462-4", "Diastolic blood pressure", "mm[Hg]", (77, 10, 0))


@dataclass(frozen=True)
class Measurement:
    """One observation.

    Attributes:
        analyte: what was measured.
        value, unit: as this site reports it.
        effective: when the specimen was drawn or the patient measured, UTC.
        issued: when the value became available, UTC.
        factor: the hidden factor that the value carries, or None.
        status: FHIR observation status.
        usual_unit_value: the value in ``analyte.unit``.
        diastolic: for blood pressure, the second component, mm[Hg].
    """

    analyte: Analyte
    value: float
    unit: str
    effective: datetime
    issued: datetime
    usual_unit_value: float
    factor: str | None = None
    status: str = "final"
    diastolic: float | None = None


@dataclass(frozen=True)
class Measurements:
    """All of one patient's, in order of issue; ``repeated`` are positions that are exported twice."""

    items: tuple[Measurement, ...]
    repeated: tuple[int, ...]


def draw_measurements(subject: Subject, late_facts: bool) -> Measurements:
    """Draw every vital and laboratory value of a patient.

    Blood is taken after admission, again before the film where there is time, and once after the
    film; only what is issued before the film carries the factor ``inflamed``.
    """
    generator = subject.generator("measurements")
    items: list[Measurement] = []
    for drawn in _rounds_before(subject):
        items += _panel(subject, drawn, generator, before=True)
        items += _vitals(subject, drawn, generator)
    items.append(_measure(subject, WEIGHT, subject.admitted, 5, generator))
    follow_up = subject.index + timedelta(hours=float(generator.uniform(18, 30)))
    items += _panel(subject, follow_up, generator, before=False)
    items += _vitals(subject, follow_up, generator)
    late = _procalcitonin(subject, generator)
    items += [late] if late_facts else []
    items += _mistakes(subject, items, generator)
    items.sort(key=lambda item: (item.issued, item.analyte.code, item.status, item.value))
    repeated = (int(generator.integers(len(items))),) if generator.random() < 0.05 else ()
    return Measurements(tuple(items), repeated)


def _rounds_before(subject: Subject) -> list[datetime]:
    rounds = [subject.admitted + timedelta(hours=1)]
    if subject.index - subject.admitted > timedelta(hours=16):
        rounds.append(subject.index - timedelta(hours=3))
    return [moment.replace(microsecond=0) for moment in rounds]


def _panel(
    subject: Subject, drawn: datetime, generator: np.random.Generator, before: bool
) -> list[Measurement]:
    present, minutes = subject.hidden.present, float(generator.uniform(40, 110))
    # After the film the value is drawn anew, so that it tells nothing about the factor before it.
    inflamed = subject.hidden.factors["inflamed"] if before else bool(generator.random() < 0.5)
    items = []
    for analyte in LABS:
        measurement = _measure(subject, analyte, drawn, minutes, generator)
        if analyte.code == CRP:
            value = _log_normal(CRP_MG_PER_L[inflamed], generator)
            measurement = _with_value(subject, measurement, value, "inflamed" if before else None)
            if before and not present["crp"]:
                continue
        items.append(measurement)
    lactate = _measure(subject, LACTATE_ANALYTE, drawn, minutes, generator)
    return [*items, lactate] if present["lactate"] or not before else items


def _vitals(subject: Subject, taken: datetime, generator: np.random.Generator) -> list[Measurement]:
    items = [_measure(subject, analyte, taken, 5, generator) for analyte in VITALS]
    low = round(float(generator.normal(DIASTOLIC.centre, DIASTOLIC.spread)))
    return [*items, replace(_measure(subject, SYSTOLIC, taken, 5, generator), diastolic=float(low))]


def _procalcitonin(subject: Subject, generator: np.random.Generator) -> Measurement:
    """Known only after the film, although for half of the patients the blood was drawn before it."""
    offset = timedelta(hours=float(generator.choice([-0.5, 2.0])))
    wait = timedelta(hours=float(generator.uniform(3, 12)))
    value = _log_normal(PROCALCITONIN_NG_PER_ML[subject.hidden.factors["late"]], generator)
    blank = Measurement(
        PROCALCITONIN_ANALYTE,
        value,
        PROCALCITONIN_ANALYTE.unit,
        subject.index + offset,
        (subject.index + wait).replace(microsecond=0),
        value,
    )
    return _with_value(subject, blank, value, "late")


def _mistakes(
    subject: Subject, items: list[Measurement], generator: np.random.Generator
) -> list[Measurement]:
    """What a real record also holds: a value marked as entered in error, a lost decimal point."""
    in_error, slipped = generator.random(2) < (0.05, 0.01)
    mistakes = []
    if in_error:
        wrong = _with_value(subject, items[0], 999.0, None)
        mistakes.append(replace(wrong, status="entered-in-error"))
    if slipped:
        temperature = next(item for item in items if item.analyte.code == TEMPERATURE)
        slipped_value = float(round(temperature.value * 10))
        mistakes.append(
            replace(
                temperature,
                value=slipped_value,
                usual_unit_value=_usual(temperature, slipped_value),
                issued=_later(temperature.issued, 1),
            )
        )
    return mistakes


def _measure(
    subject: Subject, analyte: Analyte, taken: datetime, minutes: float, generator: np.random.Generator
) -> Measurement:
    value = max(float(generator.normal(analyte.centre, analyte.spread)), analyte.centre * 0.3)
    if analyte.unit == "%":
        value = min(value, 100.0)
    blank = Measurement(analyte, value, analyte.unit, taken, _later(taken, minutes), value)
    return _with_value(subject, blank, value, None)


def _with_value(subject: Subject, item: Measurement, value: float, factor: str | None) -> Measurement:
    """``item`` with ``value`` (in the usual unit) reported as the patient's site does."""
    analyte = item.analyte
    other = analyte.code in subject.site.other_units and analyte.other_unit is not None
    digits = analyte.decimals if not other else max(1, analyte.decimals + round(-np.log10(analyte.scale)))
    shown = round(value * analyte.scale + analyte.offset if other else value, digits)
    unit = analyte.other_unit if other and analyte.other_unit else analyte.unit
    item = replace(item, value=shown, unit=unit, factor=factor)
    return replace(item, usual_unit_value=_usual(item, shown))


def _usual(item: Measurement, value: float) -> float:
    """``value``, in the unit of ``item``, in the analyte's usual unit."""
    analyte = item.analyte
    return float((value - analyte.offset) / analyte.scale if item.unit != analyte.unit else value)


def _log_normal(parameters: tuple[float, float], generator: np.random.Generator) -> float:
    median, spread = parameters
    return float(median * np.exp(spread * generator.standard_normal()))


def _later(moment: datetime, minutes: float) -> datetime:
    return (moment + timedelta(minutes=minutes)).replace(microsecond=0)
