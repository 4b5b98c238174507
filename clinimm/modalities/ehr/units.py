"""UCUM units, and the one unit in which each common measurement is kept.

The everyday case is a look-up. Only a unit that is not the usual one of its code reaches pint
(with ucumvert's UCUM grammar), once a pair of code and unit. Measured weaknesses of ucumvert 0.3:
it takes neither ``[pH]`` nor ``mOsm/kg`` and calls enzyme units and international units different
dimensions; such units are kept as they are.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

#: What laboratories write -> UCUM (case sensitive, https://ucum.org/ucum).
ALIASES: dict[str, str] = {
    "lb": "[lb_av]", "lbs": "[lb_av]", "pounds": "[lb_av]", "oz": "[oz_av]",
    "in": "[in_i]", "inch": "[in_i]", "inches": "[in_i]", "ft": "[ft_i]",
    "F": "[degF]", "degF": "[degF]", "°F": "[degF]", "C": "Cel", "degC": "Cel", "°C": "Cel",
    "mmHg": "mm[Hg]", "mm Hg": "mm[Hg]", "cmH2O": "cm[H2O]",
    "bpm": "/min", "beats/min": "/min", "{beats}/min": "/min", "beats/minute": "/min",
    "breaths/min": "/min", "{breaths}/min": "/min", "breaths/minute": "/min",
    "per minute": "/min", "1/min": "/min",
    "percent": "%", "K/uL": "10*3/uL", "K/µL": "10*3/uL", "k/uL": "10*3/uL", "x10^3/uL": "10*3/uL",
    "10^3/uL": "10*3/uL", "10e3/uL": "10*3/uL", "thou/uL": "10*3/uL", "1000/uL": "10*3/uL",
    "x10^9/L": "10*9/L", "10^9/L": "10*9/L", "10e9/L": "10*9/L", "G/L": "10*9/L",
    "M/uL": "10*6/uL", "x10^6/uL": "10*6/uL", "10^6/uL": "10*6/uL", "10e6/uL": "10*6/uL",
    "x10^12/L": "10*12/L", "10^12/L": "10*12/L", "T/L": "10*12/L",
    "mg/dl": "mg/dL", "g/dl": "g/dL", "ug/dl": "ug/dL", "µg/dL": "ug/dL", "mg/l": "mg/L", "g/l": "g/L",
    "ng/ml": "ng/mL", "pg/ml": "pg/mL", "ug/ml": "ug/mL", "µg/mL": "ug/mL", "ug/l": "ug/L",
    "µg/L": "ug/L", "mmol/l": "mmol/L", "umol/l": "umol/L", "µmol/L": "umol/L", "meq/l": "meq/L",
    "mEq/L": "meq/L", "IU/L": "[IU]/L", "u/l": "U/L", "U/l": "U/L", "mIU/L": "m[IU]/L",
    "kg/m^2": "kg/m2", "kg/m²": "kg/m2", "mL/min/1.73m2": "mL/min/{1.73_m2}",
    "mL/min/1.73 m2": "mL/min/{1.73_m2}", "mL/min/1.73m²": "mL/min/{1.73_m2}",
    "mL/min/[1.73_m2]": "mL/min/{1.73_m2}", "sec": "s", "seconds": "s", "hours": "h", "yr": "a",
    "years": "a", "{INR}": "1", "mOsm/kg": "mosm/kg",
}  # fmt: skip

#: LOINC code -> (usual unit, lowest and highest value that a living person can have, in it).
#: Limits are generous: they find typing errors and wrong units, not illness.
USUAL: dict[str, tuple[str, float, float]] = {
    "8310-5": ("Cel", 20, 46), "8331-1": ("Cel", 20, 46), "8328-7": ("Cel", 20, 46),
    "29463-7": ("kg", 0.2, 650), "3141-9": ("kg", 0.2, 650), "8302-2": ("cm", 15, 275),
    "8287-5": ("cm", 10, 80), "39156-5": ("kg/m2", 4, 210),
    "8867-4": ("/min", 0, 400), "9279-1": ("/min", 0, 150),
    "8480-6": ("mm[Hg]", 0, 400), "8462-4": ("mm[Hg]", 0, 300), "8478-0": ("mm[Hg]", 0, 350),
    "2708-6": ("%", 0, 100), "59408-5": ("%", 0, 100), "3150-6": ("%", 15, 100),
    "6690-2": ("10*3/uL", 0, 2000), "26464-8": ("10*3/uL", 0, 2000), "777-3": ("10*3/uL", 0, 6000),
    "789-8": ("10*6/uL", 0, 15), "718-7": ("g/dL", 0.5, 30), "4544-3": ("%", 1, 85),
    "731-0": ("10*3/uL", 0, 2000), "751-8": ("10*3/uL", 0, 2000), "742-7": ("10*3/uL", 0, 500),
    "785-6": ("pg", 5, 80), "786-4": ("g/dL", 5, 60), "787-2": ("fL", 20, 200),
    "2345-7": ("mg/dL", 0, 2500), "2339-0": ("mg/dL", 0, 2500), "2160-0": ("mg/dL", 0, 60),
    "38483-4": ("mg/dL", 0, 60), "3094-0": ("mg/dL", 0, 400), "6299-2": ("mg/dL", 0, 400),
    "2951-2": ("mmol/L", 80, 220), "2947-0": ("mmol/L", 80, 220), "2823-3": ("mmol/L", 0.5, 15),
    "6298-4": ("mmol/L", 0.5, 15), "2075-0": ("mmol/L", 40, 180), "2028-9": ("mmol/L", 1, 80),
    "1963-8": ("mmol/L", 1, 80), "17861-6": ("mg/dL", 1, 30), "1975-2": ("mg/dL", 0, 100),
    "1742-6": ("U/L", 0, 50000), "1920-8": ("U/L", 0, 50000), "6768-6": ("U/L", 0, 20000),
    "14804-9": ("U/L", 0, 100000), "2532-0": ("U/L", 0, 100000),
    "1751-7": ("g/dL", 0.1, 10), "2885-2": ("g/dL", 0.5, 20),
    "2093-3": ("mg/dL", 0, 3000), "2571-8": ("mg/dL", 0, 30000), "2085-9": ("mg/dL", 0, 400),
    "18262-6": ("mg/dL", 0, 2000), "13457-7": ("mg/dL", 0, 2000), "4548-4": ("%", 1, 30),
    "2524-7": ("mmol/L", 0, 60), "1988-5": ("mg/L", 0, 1500), "30522-7": ("mg/L", 0, 1500),
    "33959-8": ("ng/mL", 0, 5000), "2276-4": ("ng/mL", 0, 500000), "48065-7": ("ng/mL", 0, 1000000),
    "48066-5": ("ng/mL", 0, 1000000), "6598-7": ("ng/mL", 0, 10000), "10839-9": ("ng/mL", 0, 10000),
    "2744-1": ("[pH]", 6, 8.2), "2019-8": ("mm[Hg]", 5, 300), "2703-7": ("mm[Hg]", 5, 760),
    "5902-2": ("s", 3, 600), "3173-2": ("s", 5, 600), "6301-6": ("1", 0.1, 50),
    "33914-3": ("mL/min/{1.73_m2}", 0, 300), "9269-2": ("{score}", 3, 15),
}  # fmt: skip

#: LOINC code -> molar mass, g/mol, where a laboratory may report moles for a mass code.
MOLAR_MASS: dict[str, float] = {
    "2160-0": 113.12, "38483-4": 113.12, "2345-7": 180.156, "2339-0": 180.156, "3094-0": 28.014,
    "6299-2": 28.014, "1975-2": 584.66, "2093-3": 386.65, "2085-9": 386.65, "18262-6": 386.65,
    "13457-7": 386.65, "2571-8": 885.4, "17861-6": 40.078,
}  # fmt: skip

_SAME = {("[IU]/L", "U/L"), ("meq/L", "mmol/L"), ("1", "[pH]"), ("{pH}", "[pH]"), ("{#}", "1")}
_MONOVALENT = {"2951-2", "2947-0", "2823-3", "6298-4", "2075-0", "2028-9", "1963-8"}
_COMMON = {unit for unit, _, _ in USUAL.values()} | set(ALIASES.values()) | {"mosm/kg", "[pH]"}
LARGEST = 1e9


class Conversion(NamedTuple):
    """``value * factor + offset`` in ``unit``; ``flag`` says what was odd about the given unit."""

    unit: str | None
    factor: float = 1.0
    offset: float = 0.0
    flag: str | None = None

    def apply(self, value: float) -> float:
        """``value`` in ``unit``."""
        return value * self.factor + self.offset


def conversion(code: str, unit: str | None) -> Conversion:
    """How a value of ``code`` (``LOINC//29463-7``) in ``unit`` gets its usual unit.

    Flags: ``no_unit``; ``unit_unexpected``, the unit cannot become the code's usual one and is kept;
    ``unit_not_ucum``, the code has no usual unit and the given one is not UCUM; it is kept.

    >>> round(conversion("LOINC//29463-7", "[lb_av]").apply(100), 3)
    45.359
    """
    if not unit:
        return Conversion(None, flag="no_unit")
    given = ALIASES.get(unit, unit)
    system, _, bare = code.partition("//")
    usual = USUAL.get(bare) if system == "LOINC" else None
    if usual is None:
        return Conversion(given, flag=None if given in _COMMON or _is_ucum(given) else "unit_not_ucum")
    if usual[0] == given:
        return Conversion(given)
    return _to_usual(bare, given, usual[0])


def is_absurd(code: str, value: float, unit: str | None) -> bool:
    """Whether no living person can have this value, or no machine can mean it."""
    if not -LARGEST <= value <= LARGEST:  # also true of NaN
        return True
    usual = USUAL.get(code[7:]) if code.startswith("LOINC//") else None
    return usual is not None and unit == usual[0] and not usual[1] <= value <= usual[2]


def _to_usual(code: str, given: str, usual: str) -> Conversion:
    if (given, usual) in _SAME and (given != "meq/L" or code in _MONOVALENT):
        return Conversion(usual)
    line = None if "{" in usual else _line(given, usual)  # ucumvert forgets what braces say
    if line is None and code in MOLAR_MASS:
        line = _line(given, "mmol/L")
        to_mass = _line("mg/dL", usual)
        if line is not None and to_mass is not None:
            line = (line[0] * MOLAR_MASS[code] / 10 * to_mass[0], 0.0)
    if line is None:
        return Conversion(given, flag="unit_unexpected")
    return Conversion(usual, *line)


@cache
def _line(given: str, wanted: str) -> tuple[float, float] | None:
    """Factor and offset from one UCUM unit to another; None where there are none."""
    import pint

    registry = _registry()
    try:
        source = registry.from_ucum(given)
        target = registry.from_ucum(wanted)
        zero, one = (
            registry.Quantity(x * source.magnitude, source.units).to(target.units).magnitude
            for x in (0.0, 1.0)
        )
    except (pint.PintError, ValueError, AttributeError):  # annotations such as {score} have no units
        return None
    except _parser_errors():
        return None
    scale = float(target.magnitude)
    return (one - zero) / scale, zero / scale


@cache
def _is_ucum(unit: str) -> bool:
    """Whether a unit is UCUM; a pure annotation such as ``{score}`` is."""
    if unit.startswith("{") and unit.endswith("}"):
        return True
    try:
        _registry().from_ucum(unit)
    except _parser_errors():
        return False
    return True


@cache
def _registry():  # type: ignore[no-untyped-def]  # pint's registry class is built at run time
    """The UCUM registry; it takes about a second, so it is built when first needed."""
    from ucumvert import PintUcumRegistry

    return PintUcumRegistry(cache_folder=None)


@cache
def _parser_errors() -> tuple[type[Exception], ...]:
    from lark.exceptions import LarkError

    return (LarkError,)
