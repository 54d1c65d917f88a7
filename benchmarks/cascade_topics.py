"""What questions are about, from their words alone, and estimates from that. Needs numpy.

Nothing here sees a label but those it is given; the texts of all questions are used, which nobody had to label.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from penstock.routing.cascade import prompts
from penstock.routing.cascade.landmarks import fit_landmarks

Floats = NDArray[np.float64]
Places = NDArray[np.int64]
Approach = Callable[[Places, Floats, Places], Floats]
"""Estimates from the places and labels of what is labelled, for other places."""

_TOPICS, _SEEN_LEAST, _SEEN_MOST = 8, 4, 0.15
_WIDTH, _NOISE, _FAR = 0.6, 40.0, 4.0
_CLUSTERS, _ROUNDS = (20, 40, 80), 15
_POWERS = 4
_BUCKETS = 1 << 12
_OWN_WORDS = re.compile(r"\n[A-D]\. |\nAnswer:")


class Texts:
    """Questions, and what can be made of them without labels."""

    def __init__(self, texts: Sequence[str], seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self.rows = [prompts.features(text) for text in texts]
        self.features = _standard(np.array(self.rows))
        words = [re.findall(r"[a-z]{2,}|\d", _OWN_WORDS.sub("\n", text).lower()) for text in texts]
        rare, every = self._latent(words, _SEEN_MOST, 64), self._latent(words, 1.0, _TOPICS)
        self.topics = np.hstack([_standard(rare[:, :_TOPICS]), _standard(every)])
        self.hashed = self._hashed(texts)
        self.clusters = [self._cluster(_unit(rare), count) for count in _CLUSTERS for _ in range(3)]

    def approaches(self) -> dict[str, Approach]:
        """Return what there is to compare."""
        both = np.hstack([self.features, self.topics])
        return {
            "shipped: features, landmarks": self._landmarks,
            "features, ridge": lambda known, labels, asked: _ridge(self.features, known, labels, asked, 3000.0),
            "topics, ridge": lambda known, labels, asked: _ridge(self.topics, known, labels, asked, 200.0),
            "hashed words and pairs, naive Bayes": self._bayes,
            "clusters, empirical Bayes": self._clustered,
            "features, kernel": lambda known, labels, asked: _kernel(self.features, known, labels, asked),
            "features and topics, kernel": lambda known, labels, asked: _kernel(both, known, labels, asked),
        }

    def _landmarks(self, known: Places, labels: Floats, asked: Places) -> Floats:
        model = fit_landmarks([self.rows[place] for place in known], labels.tolist(), [1.0] * len(known))
        return np.array([model(self.rows[place]) for place in asked])

    def _bayes(self, known: Places, labels: Floats, asked: Places) -> Floats:
        """Add up what each word's mean label differs from that of all, words seen seldom counting little."""
        rows = self.hashed[known]
        rest = labels - labels.mean()
        weights = rows.T @ rest / (rows.sum(axis=0) + 60.0)
        sums: Floats = self.hashed[asked] @ weights / np.sqrt(self.hashed[asked].sum(axis=1) + 1.0)
        return sums

    def _clustered(self, known: Places, labels: Floats, asked: Places) -> Floats:
        total = np.zeros(len(asked))
        for groups in self.clusters:
            size = int(groups.max()) + 1
            seen = np.bincount(groups[known], minlength=size)
            sums = np.bincount(groups[known], labels - labels.mean(), minlength=size)
            total += (sums / (seen + 10.0))[groups[asked]]
        return total

    def _latent(self, words: Sequence[Sequence[str]], most: float, dimensions: int) -> Floats:
        """Return principal components of TF-IDF (latent semantic analysis), by random projections."""
        seen = Counter(word for each in words for word in set(each))
        known = sorted(word for word, count in seen.items() if _SEEN_LEAST <= count < most * len(words))
        columns = {word: column for column, word in enumerate(known)}
        table = np.zeros((len(words), len(columns)), np.float32)
        for row, each in enumerate(words):
            for word, count in Counter(each).items():
                if word in columns:
                    table[row, columns[word]] = (1.0 + np.log(count)) * np.log(len(words) / seen[word])
        table /= np.sqrt((table**2).sum(axis=1, keepdims=True)) + 1e-9
        if most >= 1.0:
            table -= table.mean(axis=0)
        sketch = self._random.standard_normal((table.shape[1], dimensions + 30)).astype(np.float32)
        basis = table @ sketch
        for _ in range(_POWERS):
            basis, _ = np.linalg.qr(table @ (table.T @ basis))
        left, scale, _ = np.linalg.svd(basis.T @ table, full_matrices=False)
        return np.asarray(((basis @ left) * scale)[:, :dimensions], np.float64)

    def _cluster(self, rows: Floats, count: int) -> Places:
        """Return each row's group (spherical k-means)."""
        centres = rows[self._random.choice(len(rows), count, replace=False)]
        groups = np.zeros(len(rows), np.int64)
        for _ in range(_ROUNDS):
            groups = (rows @ centres.T).argmax(axis=1)
            sums = np.zeros_like(centres)
            np.add.at(sums, groups, rows)
            centres = _unit(sums)
        return groups

    def _hashed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        table = np.zeros((len(texts), _BUCKETS), np.float32)
        for row, text in enumerate(texts):
            words = re.findall(r"[a-z]{2,}|\d", text.lower())
            pairs = pairwise(words)
            places = {_place(word) for word in words} | {_place(" ".join(pair)) for pair in pairs}
            table[row, list(places)] = 1.0
        return table


def _place(word: str) -> int:
    value = 0
    for letter in word:
        value = (value * 131 + ord(letter)) % 2_147_483_647
    return value % _BUCKETS


def _standard(rows: Floats) -> Floats:
    spread = rows.std(axis=0)
    return np.asarray((rows - rows.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0))


def _unit(rows: Floats) -> Floats:
    return np.asarray(rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9))


def _ridge(rows: Floats, known: Places, labels: Floats, asked: Places, ridge: float) -> Floats:
    seen = rows[known] - rows[known].mean(axis=0)
    weights = np.linalg.solve(seen.T @ seen + ridge * np.eye(rows.shape[1]), seen.T @ (labels - labels.mean()))
    return np.asarray(rows[asked] @ weights)


def _kernel(rows: Floats, known: Places, labels: Floats, asked: Places) -> Floats:
    """Kernel ridge regression."""
    rows = np.clip(rows, -_FAR, _FAR)
    square = _alike(rows[known], rows[known]) + _NOISE * np.eye(len(known))
    return np.asarray(_alike(rows[asked], rows[known]) @ np.linalg.solve(square, labels - labels.mean()))


def _alike(one: Floats, other: Floats) -> Floats:
    apart = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2.0 * one @ other.T
    return np.asarray(np.exp(-np.maximum(apart, 0.0) / (2.0 * _WIDTH**2 * one.shape[1])))
