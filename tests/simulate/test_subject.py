from datetime import timedelta

import pytest

from clinimm.simulate.scenario import SCENARIOS
from clinimm.simulate.subject import draw_subject


@pytest.mark.parametrize("number", range(60))
def test_times_are_in_order_and_whole_seconds(number: int):
    subject = draw_subject(SCENARIOS["mixed"], 9, number)
    assert subject.admitted + timedelta(hours=7) <= subject.index + timedelta(seconds=1)
    assert timedelta(days=2) <= subject.outcome_issued - subject.index <= timedelta(days=14)
    assert subject.second_film is None or subject.second_film > subject.index
    assert (subject.slide_time is not None and subject.slide_time < subject.index) == subject.hidden.present[
        "slide"
    ]
    times = (subject.admitted, subject.index, subject.outcome_issued, subject.slide_time, subject.second_film)
    assert all(moment is None or moment.microsecond == 0 for moment in times)


def test_streams_are_independent_of_each_other():
    subject = draw_subject(SCENARIOS["mixed"], 9, 0)
    assert subject.generator("film").random() != subject.generator("slide").random()
    assert subject.generator("film").random() == subject.generator("film").random()


def test_patients_differ_and_repeat():
    first, second = (draw_subject(SCENARIOS["mixed"], 9, number) for number in (0, 1))
    assert first.person != second.person
    assert first == draw_subject(SCENARIOS["mixed"], 9, 0)
    assert first.person != draw_subject(SCENARIOS["mixed"], 10, 0).person
