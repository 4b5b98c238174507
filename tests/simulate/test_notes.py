from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from clinimm.simulate.notes import DISTRESS, LATE, draw_notes
from clinimm.simulate.scenario import SCENARIOS
from clinimm.simulate.subject import draw_subject


def _subjects(scenario: str, count: int):
    return [draw_subject(SCENARIOS[scenario], 31, number) for number in range(count)]


def test_spans_hold_exactly_the_planted_sentence():
    for subject in _subjects("late_signal", 40):
        for note in draw_notes(subject, "left", late_facts=True):
            for span in note.spans:
                sentence = note.text[span.start : span.stop]
                bank = {"distress": DISTRESS, "late": LATE}.get(span.factor)
                if bank is not None:
                    assert sentence in bank[span.positive]
                    assert span.positive == subject.hidden.factors[span.factor]
                else:
                    assert sentence == "There is a dense opacity in the left lung."


def test_only_notes_before_the_film_carry_distress_and_only_later_ones_the_rest():
    for subject in _subjects("late_signal", 60):
        for note in draw_notes(subject, None, late_facts=True):
            early = {span.factor == "distress" for span in note.spans}
            assert early == {note.time < subject.index}


def test_a_patient_without_notes_has_none_before_the_film():
    lacking = [s for s in _subjects("mixed", 120) if not s.hidden.present["note"]]
    assert lacking
    assert all(n.time > s.index for s in lacking for n in draw_notes(s, None, late_facts=False))


def test_some_notes_name_the_patient():
    texts = [(s, n.text) for s in _subjects("mixed", 40) for n in draw_notes(s, None, False)]
    named = [text for subject, text in texts if subject.person.patient_id in text]
    assert 0.1 < len(named) / len(texts) < 0.6


def test_words_alone_tell_the_factor():
    subjects = [s for s in _subjects("mixed", 300) if s.hidden.present["note"]]
    texts = [draw_notes(s, None, False)[0].text for s in subjects]
    label = [s.hidden.factors["distress"] for s in subjects]
    half = len(texts) // 2
    words = TfidfVectorizer().fit(texts[:half])
    model = LogisticRegression(C=10).fit(words.transform(texts[:half]), label[:half])
    assert roc_auc_score(label[half:], model.predict_proba(words.transform(texts[half:]))[:, 1]) > 0.98
