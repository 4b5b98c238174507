"""What words a span uses, beside what it means: latent semantic analysis of training notes.

A general language model knows little of "intubated" against "afebrile"; with a few hundred notes
the plain words often predict better. Terms are weighted by inverse document frequency and reduced
to their principal axes (Deerwester et al., 1990), learned from training subjects' notes, labelled
or not. Only terms of letters that several subjects' notes use are kept, so that no name or number
of one patient ends up in a model's files.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from clinimm.nn.dense import pack, unpack

_TERM = r"(?u)\b[^\W\d_]{2,}\b"
_MOST_TERMS = 8192


def fit_lexical(tokens: pd.DataFrame, components: int, min_subjects: int) -> dict[str, Any]:
    """Terms, their weights and their principal axes.

    Args:
        tokens: ``subject_id`` and ``text`` of the spans of training subjects.
        components: most axes that are kept; fewer terms give fewer axes.
        min_subjects: subjects whose notes must use a term.

    Returns:
        JSON values: ``terms``, ``idf`` (term), ``axes`` (term, component), ``components``. Where
        hardly any term is common enough, one component that is always zero.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    notes = tokens["text"].astype(str).groupby(tokens["subject_id"].astype(str)).agg(" ".join)
    terms = _terms(notes, min_subjects)
    if len(terms) < 2:
        return {"terms": [], "idf": pack(np.zeros(0)), "axes": pack(np.zeros((0, 1))), "components": 1}
    vectorizer = TfidfVectorizer(vocabulary=terms, token_pattern=_TERM, sublinear_tf=True)
    weighted = vectorizer.fit_transform(notes)
    kept = max(1, min(components, len(terms) - 1, len(notes) - 1))
    with np.errstate(invalid="ignore"):  # notes that are all the same have no variance to explain
        axes = TruncatedSVD(kept, random_state=0).fit(weighted).components_.T
    return {"terms": terms, "idf": pack(vectorizer.idf_), "axes": pack(axes), "components": kept}


def _terms(notes: pd.Series, min_subjects: int) -> list[str]:
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(token_pattern=_TERM, binary=True)
    try:
        counts = np.asarray(counter.fit_transform(notes).sum(axis=0)).ravel()
    except ValueError:  # scikit-learn's word for "there is no term at all"
        return []
    names = counter.get_feature_names_out()
    common = sorted(
        ((-int(n), str(name)) for name, n in zip(names, counts, strict=True) if n >= min_subjects)
    )
    return sorted(name for _, name in common[:_MOST_TERMS])


def lexical_vectors(texts: pd.Series, lexical: dict[str, Any]) -> np.ndarray:
    """(span, component) float32 with the statistics of ``fit_lexical``; a span of unknown words is zero."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.preprocessing import normalize

    terms, components = lexical["terms"], int(lexical["components"])
    if not terms or not len(texts):
        return np.zeros((len(texts), components), dtype=np.float32)
    counts = (
        CountVectorizer(vocabulary=terms, token_pattern=_TERM).transform(texts.astype(str)).astype(np.float32)
    )
    counts.data = 1 + np.log(counts.data)
    weighted = normalize(counts.multiply(unpack(lexical["idf"], (len(terms),))[None]).tocsr())
    return np.asarray(weighted @ unpack(lexical["axes"], (len(terms), components)), dtype=np.float32)
