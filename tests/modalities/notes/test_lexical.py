from __future__ import annotations

import json

import numpy as np
import pandas as pd
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from clinimm.modalities.notes.lexical import fit_lexical, lexical_vectors

NOTES = [
    "Fever and dry cough since Monday, saturation low",
    "No fever, no cough, saturation normal",
    "Intubated on Monday; fever and low saturation",
    "Dry cough, no fever. Intubated later, then normal",
]
TOKENS = pd.DataFrame({"subject_id": list("abcd"), "text": NOTES})


def test_it_is_tf_idf_and_truncated_svd() -> None:
    lexical = json.loads(json.dumps(fit_lexical(TOKENS, 2, min_subjects=1)))
    vectorizer = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b[^\W\d_]{2,}\b")
    svd = TruncatedSVD(2, random_state=0).fit(vectorizer.fit_transform(NOTES))
    plain = TfidfVectorizer(
        sublinear_tf=True,
        norm="l2",
        vocabulary=vectorizer.vocabulary_,
        token_pattern=vectorizer.token_pattern,
    )
    expected = svd.transform(plain.fit_transform(NOTES))

    np.testing.assert_allclose(lexical_vectors(TOKENS["text"], lexical), expected, atol=1e-5)


def test_only_words_of_several_subjects_and_no_numbers_are_kept() -> None:
    rows = [("a", "Mrs Winterbottom has fever 38")] * 9 + [("b", "fever 38 ____"), ("c", "fever 38")]
    tokens = pd.DataFrame(
        [*rows, ("b", "cough"), ("c", "cough"), ("d", "cough")], columns=["subject_id", "text"]
    )

    assert fit_lexical(tokens, 4, min_subjects=3)["terms"] == ["cough", "fever"]


def test_unknown_words_and_no_common_words_give_zeros() -> None:
    lexical = fit_lexical(TOKENS, 2, min_subjects=2)
    nothing = fit_lexical(TOKENS, 2, min_subjects=9)

    assert not lexical_vectors(pd.Series(["Zebra 7"]), lexical).any()
    assert nothing["terms"] == []
    assert lexical_vectors(TOKENS["text"], nothing).shape == (4, 1)
    assert fit_lexical(pd.DataFrame({"subject_id": ["a"], "text": ["38.5"]}), 2, 1)["terms"] == []
