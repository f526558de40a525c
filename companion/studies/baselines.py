"""What a network is compared with: one constant answer, and words that are counted without regard to their order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Self

Words = Sequence[str]


def new_baseline(name: str, kind: str = "single", analyzer: str = "word") -> Any:
    """Return a baseline, to be fitted on texts or, for tags, on lists of words.

    Parameters
    ----------
    name : {"constant", "bag_of_words"}
        The most frequent answer (the mean of numbers); or single words and word pairs, weighted by TF-IDF, with
        logistic regression (ridge regression for numbers, `WordTagger` for tags).
    kind : str
        What the label is, as in `companion.data.catalogue.Card`.
    analyzer : {"word", "char"}
        Count words, or characters.
    """
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline

    if kind == "tags":
        return ConstantTagger() if name == "constant" else WordTagger()
    if name == "constant":
        return DummyRegressor() if kind == "regression" else DummyClassifier()
    predictor = Ridge() if kind == "regression" else LogisticRegression(C=20, max_iter=1000)
    return make_pipeline(TfidfVectorizer(analyzer=analyzer, ngram_range=(1, 2), sublinear_tf=True), predictor)


class ConstantTagger:
    """The most frequent tag of the training texts for every word."""

    def fit(self, texts: Sequence[Words], tags: Sequence[Words]) -> Self:
        """Count the tags."""
        self.tag_ = Counter(tag for sentence in tags for tag in sentence).most_common(1)[0][0]
        return self

    def predict(self, texts: Sequence[Words]) -> list[list[str]]:
        """Return that tag for every word of every text."""
        return [[self.tag_] * len(words) for words in texts]


class WordTagger:
    """Logistic regression on every word, its shape, its ends, and two neighbours on each side with theirs.

    Examples
    --------
    >>> words, tags = [["Anna", "lives", "in", "Rome"]] * 2, [["B-PER", "O", "O", "B-LOC"]] * 2
    >>> WordTagger().fit(words, tags).predict([["Anna", "was", "in", "Rome"]])
    [['B-PER', 'O', 'O', 'B-LOC']]
    """

    def fit(self, texts: Sequence[Words], tags: Sequence[Words]) -> Self:
        """Train on lists of words with a tag for each."""
        from sklearn.feature_extraction import DictVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        self.model_ = make_pipeline(DictVectorizer(), LogisticRegression(C=10, max_iter=1000))
        rows = [word_features(words, place) for words in texts for place in range(len(words))]
        self.model_.fit(rows, [tag for sentence in tags for tag in sentence])
        return self

    def predict(self, texts: Sequence[Words]) -> list[list[str]]:
        """Return the most probable tag of every word, each by itself."""
        return [
            self.model_.predict([word_features(words, place) for place in range(len(words))]).tolist() if words else []
            for words in texts
        ]


def word_features(words: Words, place: int) -> dict[str, str]:
    """Return what `WordTagger` sees of a word: itself, its shape and ends, and its neighbours with their shapes."""
    row = {"prefix": words[place].lower()[:3], "suffix": words[place].lower()[-3:]}
    for away in (-2, -1, 0, 1, 2):
        word = words[place + away] if 0 <= place + away < len(words) else "-"
        row |= {f"word{away}": word.lower(), f"shape{away}": shape(word)}
    return row


def shape(word: str) -> str:
    """Return a word with `X` for capitals, `x` for other letters and `0` for digits, each run of them once.

    >>> shape("McDonald's"), shape("3.75"), shape("USA")
    ("XxXx'x", '0.0', 'X')
    """
    return re.sub(r"(.)\1+", r"\1", re.sub("[a-z]", "x", re.sub("[A-Z]", "X", re.sub(r"\d", "0", word))))
