"""Scorers: the traps of each official definition, and what must hold for any answer."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vistune.errors import VistuneError
from vistune.evaluate.scorers import (
    anls,
    captions,
    chartqa,
    gqa,
    hallusionbench,
    letters,
    mmbench,
    mme,
    mmmu,
    ocrbench,
    pope,
    ptb,
    refcoco,
    scienceqa,
    vqa,
)

words = st.lists(st.sampled_from(["a", "cat", "two", "2", "the", "dog's", "1,000", "isn't", "", "x-ray."]), max_size=6)
texts = st.one_of(words.map(" ".join), st.text(max_size=12))
letter_texts = st.sampled_from(["A", "B.", "(C)", "answer is D", "the cat", "B or C", "Z", "", "a dog and a cow"])


@pytest.mark.parametrize(("same", "score"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_vqa_accuracy_by_agreement(same: int, score: float) -> None:
    given = ["cat"] * same + [f"dog{n}" for n in range(10 - same)]
    assert vqa.accuracy("cat", given) == pytest.approx(score)
    assert vqa.accuracy_m4c("Cat?", given) == pytest.approx(score)


def test_vqa_normalises_only_where_people_differ() -> None:
    assert vqa.accuracy("Yes", ["yes"] * 10) == 0.0 and vqa.accuracy("Yes", ["yes"] * 9 + ["no"]) == 1.0
    assert vqa.accuracy("2", ["two"] * 10) == 0.0 and vqa.accuracy("2", ["two"] * 9 + ["2"]) == 1.0
    submitted = {"answers": ["yes"] * 10}
    assert vqa.results_submitted(submitted, ["Yes."]) == {"accuracy": 1.0}
    assert vqa.results(submitted, ["Yes."]) == {"accuracy": 0.0}
    with pytest.raises(VistuneError, match="got none"):
        vqa.accuracy("x", [])


def test_vqa_periods_and_punctuation() -> None:
    assert vqa.normalise("3.5") == "3.5" and vqa.normalise("a.b") == "ab" and vqa.normalise("x 5.") == "x 5"
    assert vqa.normalise("." * 40) == "." * 8, "the official call removes 32 at most"
    assert vqa.normalise("3 , 4") == "3 4" and vqa.normalise("3,4") == "34" and vqa.normalise("it's") == "it's"
    assert vqa.normalise("somebody'd") == "somebodyd"


@given(texts)
def test_vqa_normalising_is_done_once(text: str) -> None:
    once = vqa.normalise(text)
    assert once == " ".join(once.split()) and "," not in once
    assert 0 <= vqa.accuracy(text, [text] * 3 + ["other"] * 7) <= 1


def test_gqa_and_letters() -> None:
    assert gqa.exact("Left..", "left") == 1.0 and gqa.exact("left side", "left") == 0.0
    assert letters.results({"choices": ["x", "y"], "gold": 1}, ["C"]) == {"accuracy": 0.0, "unparsed": 1.0}


def test_chartqa_error_is_relative_to_the_target() -> None:
    """Scripts with swapped arguments say the opposite in both cases."""
    assert chartqa.relaxed("95", "100") == 1.0 and chartqa.relaxed("105.2", "100") == 0.0
    assert chartqa.relaxed("0.0", "0") == 0.0 and chartqa.relaxed("0", "0") == 1.0
    assert chartqa.relaxed("1,000", "1000") == 0.0 and chartqa.relaxed("2014", "2015") == 1.0
    assert chartqa.relaxed("0.5", "50%") == 1.0 and chartqa.relaxed("nan", "nan") == 0.0
    assert chartqa.results({"answers": ["12", "10"]}, [" 10.4 "]) == {"accuracy": 1.0}


@given(st.floats(0.01, 1e6), st.floats(0.01, 1e6))
def test_chartqa_tolerance(target: float, said: float) -> None:
    assert chartqa.relaxed(repr(said), repr(target)) == float(abs(said - target) / target <= 0.05)


@given(texts, st.lists(texts, min_size=1, max_size=4))
def test_anls_is_a_share_and_best_of_the_answers(said: str, answers: list[str]) -> None:
    score = anls.anls(said, answers)
    assert score == 0 or anls.THRESHOLD <= score <= 1
    assert score == max(anls.anls(said, [answer]) for answer in answers)
    assert anls.anls(answers[0], answers) == 1.0


def test_anls_differs_from_pythias_at_inner_spaces() -> None:
    assert anls.anls("a  b", ["a b"]) == 1.0 and anls.similarity_m4c("a  b", "a b") == 0.75
    assert anls.anls("13", ["12"]) == 0.5 and anls.anls("abxyz", ["abcde"]) == 0.0


def test_pope() -> None:
    expected = {"NO": "yes", "no": "no", "nope": "yes", "no,yes": "yes", "": "yes", "cannot": "yes", "Yes, not": "no"}
    assert {text: pope.answer(text) for text in expected} == expected
    assert pope.answer("I do not know") == "no" and pope.answer("Sure. No dog.") == "yes"
    silent = pope.scores([(False, True), (False, False)])
    assert silent == {"accuracy": 0.5, "precision": 0.0, "recall": 0.0, "f1": 0.0, "yes_ratio": 0.0}


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_pope_scores_are_shares(pairs: list[tuple[bool, bool]]) -> None:
    found = pope.scores(pairs)
    assert all(0 <= value <= 1 for value in found.values())
    assert (
        min(found["precision"], found["recall"])
        <= found["f1"] + 1e-12
        <= max(found["precision"], found["recall"]) + 1e-9
    )
    assert pope.f1(pairs) == found["f1"]


def test_mme() -> None:
    assert [mme.answer(t) for t in ("YES", '"yes"', "nope", "none", "the answer is yes", "")] == [
        *("yes", "yes", "no", "no", "other", "other"),
    ]
    assert mme.answer("now yes") == "no", "the first four letters hold no, not yes"
    assert mme.subtask([("a", True), ("a", True), ("b", True), ("b", False)]) == 75 + 50
    with pytest.raises(VistuneError, match="b has 1"):
        mme.subtask([("a", True), ("a", True), ("b", True)])
    whole = [(name, picture, True) for name in (*mme.PERCEPTION, *mme.COGNITION) for picture in "aabb"]
    assert (mme.perception(whole), mme.cognition(whole)) == (2000.0, 800.0)
    assert mme.perception([row for row in whole if row[0] != "OCR"]) == 1800.0


def test_scienceqa_letters() -> None:
    found = {t: scienceqa.letter(t) for t in ("A", "A.", "A. ", "F", "The answer is F.", "The answer is A", "(A)")}
    assert found == {
        "A": "A",
        "A.": "FAILED",
        "A. ": "A",
        "F": "FAILED",
        "The answer is F.": "F",
        "The answer is A": "FAILED",
        "(A)": "FAILED",
    }
    assert scienceqa.letter("The answer is A. The answer is B.") == "FAILED"
    assert not scienceqa.right("D", 3, 3), "a letter beyond the choices"


PETS = {"A": "teddy bear", "B": "rabbit", "C": "cat", "D": "dog"}


def test_mmbench_reads_answers() -> None:
    assert mmbench.choice("A", PETS) == "A" and mmbench.choice("A man with a B in it", PETS) is None
    assert mmbench.choice("B is what I would say about that picture", PETS) is None, "not within the last four words"
    assert mmbench.choice("I would say that the correct answer is **C** since it purrs very loudly", PETS) == "C"
    assert mmbench.choice("I can't process this file. A", PETS) == "Z" and mmbench.choice("Z", PETS) == "Z"
    assert mmbench.choice("a rabbit and a dog", PETS) is None and mmbench.choice("It is a RABBIT", PETS) == "B"
    assert mmbench.choice("It is a rabbit " + "that sits there " * 9, PETS) is None, (
        "more than twice as long as the choices"
    )
    assert mmbench.choice("E", PETS) is None and PETS["A"] == "teddy bear"


@given(st.lists(st.tuples(st.sampled_from("pqr"), st.integers(0, 3), st.booleans()), min_size=1, max_size=20))
def test_circular_is_never_above_vanilla(turns: list[tuple[str, int, bool]]) -> None:
    asked = [*turns, *((question, 0, True) for question in "pqr")]
    once = {(question, turn): right for question, turn, right in asked}
    rows = [(question, turn, right) for (question, turn), right in once.items()]
    assert mmbench.circular(rows) <= mmbench.vanilla(rows)


def test_mmmu_draws_where_the_official_parser_does_but_by_a_hash() -> None:
    base = {"choices": ["red", "green", "blue", "grey"], "gold": 1, "answers": []}
    ids = [f"q{n}" for n in range(400)]
    first = [mmmu.results({**base, "id": id}, ["b"]) for id in ids]
    assert first == [mmmu.results({**base, "id": id}, ["b"]) for id in ids]
    assert all(one["unparsed"] == 1.0 for one in first)
    assert 0.18 < sum(one["accuracy"] for one in first) / 400 < 0.32, "one in four is right by chance"
    assert mmmu.results({**base, "id": "q"}, ["(A) no, (B)"]) == {"accuracy": 1.0, "unparsed": 0.0}
    assert mmmu.results({**base, "id": "q"}, ["it must be the green one there"]) == {"accuracy": 1.0, "unparsed": 0.0}


def test_mmmu_open() -> None:
    assert mmmu.open_right("x = 3.14159", "3.14") and not mmmu.open_right("approximately 1,234.5", "1234.56")
    assert mmmu.open_right("The answer is blue", "blue") and not mmmu.open_right("blueberry", ["x", "a"])


def test_ocrbench() -> None:
    assert ocrbench.contains(None, ["x"]) == 0.0 and ocrbench.contains("anything", [""]) == 1.0
    assert ocrbench.contains("x y", ["xy"], "HME100k") == 1.0 and ocrbench.contains("x y", ["xy"]) == 0.0
    assert ocrbench.final_score([1.0, 0.0, 1.0]) == 2.0


def test_hallusionbench() -> None:
    rows = [("VD", "s", "0", "0", "q", 1), ("VD", "s", "0", "1", "q", 2)]
    assert hallusionbench.accuracies(rows) == {"aAcc": 0.5, "fAcc": 0.5, "qAcc": 0.0}
    blind = hallusionbench.accuracies([("VS", "s", "0", "0", "q", 2)])
    assert blind["aAcc"] == 1.0 and math.isnan(blind["fAcc"]), "leaving it open is right, and there is no figure"
    assert hallusionbench.verdict("It is incorrect, not correct") == hallusionbench.WRONG
    assert hallusionbench.yes_or_no("Yes and no", True) == hallusionbench.UNCLEAR


boxes = st.tuples(*[st.floats(0, 50)] * 2, *[st.floats(51, 100)] * 2)


@given(boxes, boxes)
def test_iou(a: tuple[float, ...], b: tuple[float, ...]) -> None:
    assert refcoco.iou(a, a) == pytest.approx(1.0) and refcoco.iou(a, b) == pytest.approx(refcoco.iou(b, a))
    assert 0 <= refcoco.iou(a, b) <= 1


def test_refcoco_reads_the_boxes_of_each_family() -> None:
    doc = {"images": [{"width": 100, "height": 50}], "box": [0, 0, 50, 50], "codec": "qwen_vl"}
    answer = "<ref>dog</ref><box>(0,0),(500,999)</box>"
    assert refcoco.results(doc, [answer])["accuracy"] == 1.0
    assert refcoco.results({**doc, "codec": "llava"}, [answer]) == {"accuracy": 0.0, "iou": 0.0, "unparsed": 1.0}
    assert refcoco.results(doc, ["<box>(500,0),(0,999)</box>"])["unparsed"] == 1.0
    assert math.isnan(refcoco.iou((0, 0, 0, 0), (0, 0, 0, 0)))


def test_caption_words() -> None:
    assert ptb.words("A man can't see the grey (or gray) harbour!") == [
        *("a", "man", "ca", "n't", "see", "the", "gray", "-lrb-", "or", "gray", "-rrb-", "harbor"),
    ]
    assert ptb.words("Wow!!! It's 8:30, and/or the dog's t-shirt...") == [
        *("wow", "!!!", "it", "'s", "8:30", "and\\/or", "the", "dog", "'s", "t-shirt"),
    ]
    assert ptb.words("St. James in the U.S. costs $5.00, 50%") == [
        "st.",
        "james",
        "in",
        "the",
        "u.s.",
        "costs",
        "$",
        "5.00",
        "50",
        "%",
    ]
    assert ptb.words("contour of four hours") == ["contour", "of", "four", "hours"]


caption = st.lists(
    st.sampled_from(["a", "man", "rides", "the", "brown", "horse", "in", "park", "dog"]), min_size=5, max_size=9
)


@given(st.lists(caption, min_size=3, max_size=5, unique_by=tuple))
def test_a_reference_is_the_best_caption(refs: list[list[str]]) -> None:
    pairs = [(ref, [ref]) for ref in refs]
    assert captions.bleu(pairs, 4) == pytest.approx(1.0) and captions.rouge_l(*pairs[0]) == pytest.approx(1.0)
    scorer = captions.Cider([r for _, r in pairs])
    for said, wanted in pairs:
        best = scorer.score(said, wanted)
        assert 0 <= scorer.score(said[:3], wanted) <= best + 1e-9 <= 10 + 2e-9


def test_captions_of_three_images_score_as_pycocoevalcap_says() -> None:
    references = [
        ["a man riding a horse", "a cowboy on a brown horse in a field"],
        ["a cat sitting on a mat", "the cat sits on the mat"],
        ["a bowl of fruit"],
    ]
    said = ["", "a cat", "a bowl of fruit on a table with a cat and a man riding a horse"]
    pairs = [captions.pair(text, refs) for text, refs in zip(said, references, strict=True)]
    scorer = captions.Cider([refs for _, refs in pairs])
    assert [scorer.score(*one) for one in pairs] == pytest.approx([0.0, 1.43203, 0.561648], abs=1e-5)
    assert captions.cider(pairs) == pytest.approx(0.664559, abs=1e-5)
    found = [captions.bleu(pairs, n) for n in (1, 2, 3, 4)]
    assert found == pytest.approx([0.333333, 0.288675, 0.228336, 0.173958], abs=1e-5)
    assert sum(captions.rouge_l(*one) for one in pairs) / 3 == pytest.approx(0.302392, abs=1e-5)


def test_cider_belongs_to_its_set_of_images() -> None:
    one, two = (["a", "cat"], [["a", "cat"]]), (["two", "dogs", "play"], [["two", "dogs", "play"]])
    assert captions.cider([one]) == 0.0, "with one image every word is in all of them"
    assert captions.cider([two, one]) > 5
    fixed = captions.Cider([r for _, r in (one, two)])
    assert fixed.score(*two) == pytest.approx(captions.Cider([r for _, r in (two, one)]).score(*two))


@given(letter_texts)
def test_no_answer_breaks_a_scorer(text: str) -> None:
    assert mmbench.choice(text, PETS) in (None, "Z", *PETS)
    assert mmmu.choice(text, PETS) in (None, *PETS)
    assert pope.answer(text) in ("yes", "no") and mme.answer(text) in ("yes", "no", "other")
