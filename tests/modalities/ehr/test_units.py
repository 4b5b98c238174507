import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinimm.modalities.ehr.units import ALIASES, USUAL, conversion, is_absurd

# Factors from NIST SP 811 (2008), appendix B.8, and from the definitions of the units.
_KNOWN = [
    ("29463-7", "[lb_av]", 100.0, 45.359237, "kg"),
    ("29463-7", "lb", 100.0, 45.359237, "kg"),
    ("29463-7", "g", 3500.0, 3.5, "kg"),
    ("29463-7", "[oz_av]", 16.0, 0.45359237, "kg"),
    ("8302-2", "[in_i]", 70.0, 177.8, "cm"),
    ("8302-2", "m", 1.8, 180.0, "cm"),
    ("8310-5", "[degF]", 98.6, 37.0, "Cel"),
    ("8310-5", "degF", 212.0, 100.0, "Cel"),
    ("8310-5", "K", 310.15, 37.0, "Cel"),
    ("8480-6", "kPa", 16.0, 120.00987, "mm[Hg]"),
    ("718-7", "g/L", 140.0, 14.0, "g/dL"),
    ("777-3", "10*9/L", 250.0, 250.0, "10*3/uL"),
    ("777-3", "/uL", 250000.0, 250.0, "10*3/uL"),
    ("1988-5", "mg/dL", 1.2, 12.0, "mg/L"),
    ("2160-0", "umol/L", 88.4, 1.0, "mg/dL"),
    ("2345-7", "mmol/L", 5.55, 100.0, "mg/dL"),
    ("2823-3", "meq/L", 4.1, 4.1, "mmol/L"),
    ("1742-6", "[IU]/L", 40.0, 40.0, "U/L"),
    ("4548-4", "mmol/mol", 100.0, 10.0, "%"),
    ("2744-1", "1", 7.4, 7.4, "[pH]"),
]


@pytest.mark.parametrize(("code", "unit", "value", "expected", "usual"), _KNOWN)
def test_known_conversions(code: str, unit: str, value: float, expected: float, usual: str) -> None:
    change = conversion(f"LOINC//{code}", unit)
    assert change.unit == usual
    assert change.flag is None
    assert math.isclose(change.apply(value), expected, rel_tol=2e-3 if "mol" in unit else 1e-6)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(USUAL)), st.floats(-1e6, 1e6))
def test_the_usual_unit_changes_nothing(code: str, value: float) -> None:
    change = conversion(f"LOINC//{code}", USUAL[code][0])
    assert change.apply(value) == value
    assert change.flag is None


@pytest.mark.parametrize("unit", [None, ""])
def test_no_unit_is_flagged(unit: str | None) -> None:
    assert conversion("LOINC//29463-7", unit) == (None, 1.0, 0.0, "no_unit")


def test_a_unit_of_another_dimension_is_kept_and_flagged() -> None:
    assert conversion("LOINC//29463-7", "cm") == ("cm", 1.0, 0.0, "unit_unexpected")


def test_braces_are_not_thrown_away() -> None:
    change = conversion("LOINC//33914-3", "mL/min")
    assert (change.unit, change.flag) == ("mL/min", "unit_unexpected")


def test_a_code_without_usual_unit_keeps_ucum_and_flags_the_rest() -> None:
    assert conversion("LOINC//99999-9", "ug/L") == ("ug/L", 1.0, 0.0, None)
    assert conversion("LOINC//99999-9", "{copies}") == ("{copies}", 1.0, 0.0, None)
    assert conversion("LOINC//99999-9", "foo bars") == ("foo bars", 1.0, 0.0, "unit_not_ucum")


def test_aliases_lead_to_units_that_the_ucum_grammar_knows() -> None:
    from ucumvert import PintUcumRegistry

    registry = PintUcumRegistry(cache_folder=None)
    for unit in set(ALIASES.values()) - {"mosm/kg"}:  # ucumvert 0.3 lacks osmole
        registry.from_ucum(unit)


@pytest.mark.parametrize(
    ("code", "value", "unit", "absurd"),
    [
        ("LOINC//8310-5", 37.0, "Cel", False),
        ("LOINC//8310-5", 98.6, "Cel", True),
        ("LOINC//8310-5", 98.6, None, False),
        ("LOINC//0000-0", 2e9, "mg", True),
        ("LOINC//0000-0", math.inf, "mg", True),
        ("LOINC//0000-0", math.nan, "mg", True),
        ("LOINC//59408-5", 101, "%", True),
    ],
)
def test_values_that_cannot_be(code: str, value: float, unit: str | None, absurd: bool) -> None:
    assert is_absurd(code, value, unit) is absurd
