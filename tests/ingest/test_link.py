import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinimm.core.pseudonym import Pseudonymiser
from clinimm.ingest.link import link
from clinimm.ingest.people import LOGICAL_ID, Links, Stated, normal_issuer
from clinimm.modality import Identity

_PSEUDONYMS = Pseudonymiser(b"0123456789abcdef")
_MRN = "urn:oid:1.2.3"


def record(
    name: str, *keys: tuple[str | None, str], source: int = 0, file: int = 0, **fields: object
) -> Stated:
    identity = Identity(keys=(*keys, (LOGICAL_ID, name)), reference=f"Patient/{name}", **fields)  # type: ignore[arg-type]
    return Stated(source, identity, frozenset((file,)))


def image(issuer: str | None, value: str, file: int, source: int = 0, **fields: object) -> Stated:
    return Stated(source, Identity(keys=((issuer, value),), **fields), frozenset((file,)))  # type: ignore[arg-type]


def subject(links: Links, file: int, issuer: str | None, value: str, source: int = 0) -> str | None:
    return links.find(source, (file, None, issuer, value))[0]


def problem(links: Links, file: int, issuer: str | None, value: str) -> str | None:
    return links.find(0, (file, None, issuer, value))[1]


def of_record(links: Links, name: str, source: int = 0) -> tuple[str | None, str | None]:
    return links.find(source, (99, f"Patient/{name}", None, None))


def test_issuers_are_compared_without_their_notation() -> None:
    assert normal_issuer("urn:oid:1.2.3") == normal_issuer(" 1.2.3 ") == "1.2.3"
    assert normal_issuer("") is normal_issuer(None) is None


@pytest.mark.parametrize("issuer", [None, "1.2.3", _MRN])
def test_an_image_links_to_the_record_with_its_identifier(issuer: str | None) -> None:
    links = link([record("p", (_MRN, "M1")), image(issuer, "M1", 1)], _PSEUDONYMS)
    assert subject(links, 1, issuer, "M1") == of_record(links, "p")[0] is not None
    assert len(links.people) == 1


def test_two_issuers_of_one_value_are_two_people() -> None:
    links = link([record("p", (_MRN, "M1")), image("9.9", "M1", 1)], _PSEUDONYMS)
    assert subject(links, 1, "9.9", "M1") != of_record(links, "p")[0]
    assert links.shared_values == 1


def test_a_bare_value_that_two_people_have_names_nobody() -> None:
    links = link([record("p", (_MRN, "M1")), record("q", ("9.9", "M1")), image(None, "M1", 1)], _PSEUDONYMS)
    assert problem(links, 1, None, "M1") == "ambiguous-identifier"
    assert of_record(links, "p")[0] != of_record(links, "q")[0]


def test_an_image_alone_is_a_subject_too() -> None:
    links = link([image(None, "M1", 1), image(None, "M1", 2), image(None, "M2", 3)], _PSEUDONYMS)
    assert subject(links, 1, None, "M1") == subject(links, 2, None, "M1") != subject(links, 3, None, "M2")


def test_a_reference_to_nobody_is_an_orphan() -> None:
    assert of_record(link([record("p", (_MRN, "M1"))], _PSEUDONYMS), "q") == (None, "orphan")


@pytest.mark.parametrize(
    ("stated", "contradicting"),
    [({"birth_date": "1984-07-02"}, {"birth_date": "1984-07-03"}), ({"sex": "female"}, {"sex": "male"})],
)
def test_an_image_that_contradicts_the_record_is_refused_and_the_rest_stays(
    stated: dict[str, str], contradicting: dict[str, str]
) -> None:
    items = [
        record("p", (_MRN, "M1"), **stated),
        image(None, "M1", 1, **contradicting),
        image(None, "M1", 2, **stated),
    ]
    links = link(items, _PSEUDONYMS)
    assert problem(links, 1, None, "M1") == "identity-conflict"
    assert subject(links, 2, None, "M1") == of_record(links, "p")[0] is not None


def test_images_that_contradict_each_other_are_all_refused() -> None:
    links = link([image(None, "M1", 1, sex="male"), image(None, "M1", 2, sex="female")], _PSEUDONYMS)
    assert problem(links, 1, None, "M1") == problem(links, 2, None, "M1") == "identity-conflict"
    assert not links.people


def test_records_that_contradict_each_other_are_all_refused() -> None:
    items = [record("p", (_MRN, "M1"), sex="male"), record("q", (_MRN, "M1"), sex="female")]
    links = link(items, _PSEUDONYMS)
    assert of_record(links, "p") == of_record(links, "q") == (None, "identity-conflict")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"birth_date": "1984"}, {"birth_date": "1984-07-02"}),
        ({"birth_date": None}, {"birth_date": "1984-07-02"}),
        ({"sex": "unknown"}, {"sex": "male"}),
        ({"sex": "other"}, {"sex": "male"}),
    ],
)
def test_less_said_is_no_contradiction(one: dict[str, str], other: dict[str, str]) -> None:
    links = link([record("p", (_MRN, "M1"), **one), image(None, "M1", 1, **other)], _PSEUDONYMS)
    assert subject(links, 1, None, "M1") is not None


def test_the_most_precise_birth_date_is_kept() -> None:
    items = [record("p", (_MRN, "M1"), birth_date="1984"), image(None, "M1", 1, birth_date="1984-07-02")]
    (person,) = link(items, _PSEUDONYMS).people.values()
    assert person.birth_date == "1984-07-02"


def test_the_latest_version_of_a_record_speaks() -> None:
    old = record("p", (_MRN, "M1"), sex="male", version_us=1)
    new = record("p", (_MRN, "M1"), sex="female", version_us=2, file=1)
    (person,) = link([new, old], _PSEUDONYMS).people.values()
    assert person.sex == "female"


def test_one_record_id_for_two_people_is_a_conflict() -> None:
    items = [
        record("1", (_MRN, "M1"), birth_date="1950"),
        record("1", ("9.9", "X"), birth_date="1960", file=1),
    ]
    assert of_record(link(items, _PSEUDONYMS), "1") == (None, "identity-conflict")


def test_a_record_id_counts_within_its_source_only() -> None:
    links = link([record("1", source=0), record("1", source=1), image(None, "1", 3)], _PSEUDONYMS)
    people = {of_record(links, "1", 0)[0], of_record(links, "1", 1)[0], subject(links, 3, None, "1")}
    assert len(people) == 3
    assert None not in people


@pytest.mark.parametrize("value", ["", " ", "UNKNOWN", "anonymous", "0"])
def test_a_placeholder_names_nobody(value: str) -> None:
    links = link([image(None, value, 1), image(None, value, 2)], _PSEUDONYMS)
    assert problem(links, 1, None, value) == "no-identifier"


def test_a_second_source_that_adds_issuer_and_identifiers_changes_no_pseudonym() -> None:
    first = [image(None, "M1", 1), image(None, "M2", 2)]
    more = [record("p", (_MRN, "M1"), ("9.9", "AAA"), source=1, file=3), image(_MRN, "M2", 4, source=1)]
    before, after = link(first, _PSEUDONYMS), link(first + more, _PSEUDONYMS)
    assert set(before.people) == set(after.people)
    assert subject(after, 1, None, "M1") == _PSEUDONYMS.subject(None, "M1")


_KEYS = st.tuples(st.sampled_from([None, "1.2", "3.4"]), st.sampled_from("abcd"))
_STATED = st.builds(
    lambda keys, name, sex, source, file: replace(
        record(name or "", *keys, sex=sex, source=source, file=file)
        if name
        else Stated(source, Identity(keys=tuple(keys), sex=sex), frozenset((file,)))
    ),
    st.lists(_KEYS, min_size=1, max_size=3),
    st.sampled_from([None, "p", "q"]),
    st.sampled_from([None, "male", "female"]),
    st.integers(0, 1),
    st.integers(0, 5),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(_STATED, max_size=7), st.randoms())
def test_the_order_of_files_does_not_matter(stated: list[Stated], rng: random.Random) -> None:
    shuffled = rng.sample(stated, len(stated))
    one, other = link(stated, _PSEUDONYMS), link(shuffled, _PSEUDONYMS)
    assert one.people == other.people
    assert one.problems == other.problems


@settings(deadline=None, max_examples=60)
@given(st.lists(_STATED, max_size=7))
def test_nobody_is_both_female_and_male(stated: list[Stated]) -> None:
    links = link(stated, _PSEUDONYMS)
    sexes: dict[str, set[str]] = {}
    for item in stated:
        for file in item.files:
            for issuer, value in item.identity.keys:
                if item.identity.reference is None:
                    found = links.find(item.source, (file, None, issuer, value))[0]
                    sexes.setdefault(str(found), set()).add(str(item.identity.sex))
    clashes = [found for found, stated_sexes in sexes.items() if {"male", "female"} <= stated_sexes]
    assert not set(clashes) & set(links.people)


def test_the_reader_of_records_marks_their_own_ids_alike() -> None:
    from clinimm.modalities.ehr import patient

    assert patient.LOGICAL_ID == LOGICAL_ID
