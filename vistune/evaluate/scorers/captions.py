"""Captions (COCO, NoCaps): CIDEr-D, BLEU-1 to 4 and ROUGE-L as pycocoevalcap computes them, over the words of `ptb`.

CIDEr weighs n-grams by how few of the evaluated images have them in a reference (IDF), so a score belongs to its set of
images: with one image every score is 0, and scores on a part of a benchmark are not comparable with those on the whole.
BLEU counts n-grams over the whole set. Not computed: METEOR 1.5 and SPICE, which are Java programs with data of their
own (SPICE also needs CoreNLP 3.6 models); papers on captioning mostly compare CIDEr.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vistune.evaluate.scorers import ptb

ORDERS = 4
SIGMA = 6.0
BETA = 1.2
SMALL, TINY = 1e-9, 1e-15  # the official script's guards: no match in a set gives a tiny score, not 0

Grams = Counter[tuple[str, ...]]
Pair = tuple[Sequence[str], Sequence[Sequence[str]]]  # words of the caption, words of each reference
Vector = list[dict[tuple[str, ...], float]]


def pair(caption: str, references: Sequence[str]) -> Pair:
    """A caption and its references as words."""
    return ptb.words(caption), [ptb.words(r) for r in references]


def _grams(tokens: Sequence[str]) -> Grams:
    return Counter(tuple(tokens[i : i + n]) for n in range(1, ORDERS + 1) for i in range(len(tokens) - n + 1))


class Cider:
    """CIDEr-D against a fixed set of references: `documents[i]` are those of one image. Fixing them keeps the weights
    when images are resampled.

    >>> refs = [[["a", "man", "on", "a", "horse"]], [["two", "dogs", "in", "the", "park"]]]
    >>> round(Cider(refs).score(refs[0][0], refs[0]), 6)
    10.0
    """

    def __init__(self, documents: Sequence[Sequence[Sequence[str]]]) -> None:
        self.seen = Counter(gram for refs in documents for gram in {g for ref in refs for g in _grams(ref)})
        self.images = math.log(len(documents))

    def _vector(self, tokens: Sequence[str]) -> tuple[Vector, list[float], int]:
        """TF-IDF by n, norms by n, and the number of bigrams (what the script takes for the length)."""
        vector: Vector = [{} for _ in range(ORDERS)]
        for gram, count in _grams(tokens).items():
            vector[len(gram) - 1][gram] = count * (self.images - math.log(max(1.0, self.seen[gram])))
        norms = [math.sqrt(math.fsum(v * v for v in part.values())) for part in vector]
        return vector, norms, max(len(tokens) - 1, 0)

    def score(self, tokens: Sequence[str], references: Sequence[Sequence[str]]) -> float:
        """0 to 10, the mean over the references."""
        said, norms, length = self._vector(tokens)
        total = 0.0
        for reference in references:
            wanted, wanted_norms, wanted_length = self._vector(reference)
            penalty = math.exp(-((length - wanted_length) ** 2) / (2 * SIGMA**2))
            for n in range(ORDERS):
                # Clipped: a gram repeated in the caption counts no more than in the reference.
                product = math.fsum(min(v, wanted[n].get(g, 0.0)) * wanted[n].get(g, 0.0) for g, v in said[n].items())
                if norms[n] and wanted_norms[n]:
                    product /= norms[n] * wanted_norms[n]
                total += product * penalty
        return 10 * total / (ORDERS * len(references))


def cider(pairs: Sequence[Pair]) -> float:
    """Mean CIDEr-D with the IDF of these references, 0 to 10 (papers print it times 100 / 10, e.g. 120 for 1.2)."""
    scorer = Cider([references for _, references in pairs])
    return math.fsum(scorer.score(*one) for one in pairs) / len(pairs)


def bleu(pairs: Sequence[Pair], order: int = ORDERS) -> float:
    """BLEU of an order over the whole set, with the closest reference length.

    >>> round(bleu([(["a", "cat"], [["a", "cat", "sat"]])], 1), 4)
    0.6065
    """
    matched, offered, said, wanted = _totals([_counts(*one, order) for one in pairs])
    product = math.prod((m + TINY) / (o + SMALL) for m, o in zip(matched, offered, strict=True))
    ratio = (said + TINY) / (wanted + SMALL)
    return product ** (1 / order) * (math.exp(1 - 1 / ratio) if ratio < 1 else 1.0)


def bleu_of_each(pairs: Sequence[Pair], order: int = ORDERS) -> list[float]:
    """Numbers whose mean is BLEU, one for each caption: how BLEU changes, to first order, with the caption's weight
    (the infinitesimal jackknife of Efron 1982). An interval of their mean is one of BLEU.

    >>> one, two = (["a", "cat"], [["a", "cat"]]), (["a", "dog"], [["a", "cat"]])
    >>> [round(value, 6) for value in bleu_of_each([one, two], 1)], round(bleu([one, two], 1), 6)
    ([1.0, 0.5], 0.75)
    """
    counts = [_counts(*one, order) for one in pairs]
    whole = bleu(pairs, order)
    matched, offered, said, wanted = _totals(counts)
    if not all(matched):
        return [whole] * len(pairs)
    slopes = []
    for m, o, words, length in counts:
        slope = math.fsum(a / b - c / d for a, b, c, d in zip(m, matched, o, offered, strict=True)) / order
        if said < wanted:  # the brevity penalty exp(1 - wanted / said)
            slope -= length / said - wanted * words / said**2
        slopes.append(slope)
    return [whole * (1 + len(pairs) * slope) for slope in slopes]


Counts = tuple[list[int], list[int], int, int]
"""By order, n-grams that a reference has and n-grams; words; words of the reference of the closest length."""


def _counts(tokens: Sequence[str], references: Sequence[Sequence[str]], order: int) -> Counts:
    most: Counter[tuple[str, ...]] = Counter()
    for reference in references:
        most |= _grams(reference)
    matched = [0] * order
    for gram, count in _grams(tokens).items():
        if len(gram) <= order:
            matched[len(gram) - 1] += min(count, most[gram])
    offered = [max(len(tokens) - n, 0) for n in range(order)]
    return matched, offered, len(tokens), min((abs(len(r) - len(tokens)), len(r)) for r in references)[1]


def _totals(counts: Sequence[Counts]) -> Counts:
    matched, offered = ([sum(column) for column in zip(*(one[n] for one in counts), strict=True)] for n in (0, 1))
    return matched, offered, sum(one[2] for one in counts), sum(one[3] for one in counts)


def rouge_l(tokens: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """F-score of the longest common subsequence; best precision and best recall over the references."""
    from rapidfuzz.distance import LCSseq

    said = tokens or [""]
    common = [(LCSseq.similarity(said, r or [""]), len(r or [""])) for r in references]
    precision, recall = max(c / len(said) for c, _ in common), max(c / size for c, size in common)
    if not precision or not recall:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def results(doc: Mapping[str, Any], answers: Sequence[str]) -> dict[str, Any]:
    """rouge_l of the item, and its words for what is computed over all items."""
    one = pair(answers[0], doc["references"])
    return {"rouge_l": rouge_l(*one), "cider": one, "bleu_1": one, "bleu_4": one, "words": float(len(one[0]))}


def bleu_1(pairs: Sequence[Pair]) -> float:
    return bleu(pairs, 1)


def bleu_4(pairs: Sequence[Pair]) -> float:
    return bleu(pairs, 4)
