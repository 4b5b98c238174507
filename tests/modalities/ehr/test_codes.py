import pytest

from clinimm.modalities.ehr.codes import code_of, first_code, system_name, words_of


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("http://loinc.org", "LOINC"),
        ("http://snomed.info/sct", "SNOMED"),
        ("http://hl7.org/fhir/sid/icd-10-cm", "ICD10CM"),
        ("https://clinimm.example/outcome", "outcome"),
        ("https://clinimm.example/outcome/", "outcome"),
        ("urn:oid:2.16.840.1.113883.6.238", "2.16.840.1.113883.6.238"),
        (None, "LOCAL"),
        ("", "LOCAL"),
    ],
)
def test_systems(uri: str | None, name: str) -> None:
    assert system_name(uri) == name


def test_a_standard_code_wins_over_a_local_one() -> None:
    codings = [
        {"system": "http://lab.example/x", "code": "K"},
        {"system": "http://loinc.org", "code": "2823-3"},
    ]
    assert code_of({"coding": codings}) == "LOINC//2823-3"
    assert code_of({"coding": codings[:1]}) == "x//K"


def test_text_stands_in_for_a_code() -> None:
    assert code_of({"text": " Potassium "}) == "TEXT//Potassium"
    assert code_of({}) is None
    assert code_of(None) is None


def test_words_prefer_the_display() -> None:
    assert words_of({"coding": [{"code": "1", "display": "Never smoker"}], "text": "no"}) == "Never smoker"
    assert words_of({"text": "no"}) == "no"
    assert words_of({"coding": [{"code": "1"}]}) == "1"
    assert words_of({}) is None


def test_first_code() -> None:
    assert first_code([{"coding": []}, {"coding": [{"code": "laboratory"}]}]) == "laboratory"
    assert first_code(None) is None
