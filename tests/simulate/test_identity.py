from datetime import date

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clinimm.simulate.identity import SITES, Ids, Person, draw_person, draw_site, patient_id


def _person(birth: date) -> Person:
    return Person("H0P00000", "Arva", "Toldrin", True, birth, ("2106-3", "White"), ("2186-5", "Not"), "1")


def test_age_counts_birthdays():
    person = _person(date(1960, 6, 15))
    assert person.age_years(date(2020, 6, 14)) == 59
    assert person.age_years(date(2020, 6, 15)) == 60


@given(st.integers(0, 10**6), st.integers(0, 10**5))
def test_drawn_people_are_adults_of_an_age_that_dicom_can_hold(seed: int, number: int):
    index = date(2022, 2, 28)
    person = draw_person(seed, number, True, index, np.random.default_rng([seed, number]))
    assert 18 <= person.age_years(index) <= 99
    assert person.patient_id == patient_id(seed, number)


def test_hospitals_of_different_seeds_share_no_patient():
    assert not {patient_id(1, n) for n in range(200)} & {patient_id(11, n) for n in range(200)}


@given(st.text(max_size=20), st.text(max_size=20))
def test_uids_are_valid_and_repeatable(prefix: str, what: str):
    """PS3.5 section 9.1: at most 64 characters, digits and full stops, no leading zero."""
    uid = Ids(prefix).uid(what)
    assert uid == Ids(prefix).uid(what)
    assert len(uid) <= 64
    assert all(part == str(int(part)) for part in uid.split("."))


def test_the_main_site_is_the_first():
    generator = np.random.default_rng(0)
    assert draw_site(True, generator) is SITES[0]
    assert {draw_site(False, generator).key for _ in range(30)} == {site.key for site in SITES[1:]}
