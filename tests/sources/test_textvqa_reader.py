from typing import Any

import pytest

from vistune.records import Caption, Question, TextLine
from vistune.sources import AnnotationFile

QUESTIONS = AnnotationFile("textvqa", "TextVQA_0.5.1_train.json")
CAPTIONS = AnnotationFile("textcaps", "TextCaps_0.1_train.json")
OCR = AnnotationFile("textvqa_ocr", "TextVQA_Rosetta_OCR_v0.2_train.json")
PHONE, SIGN = "0054c91397f2fe05", "005635e119b9f32f"


def _head(version: str, rows: list[Any]) -> dict[str, Any]:
    return {"dataset_type": "train", "dataset_name": "textvqa", "dataset_version": version, "data": rows}


def _picture(image: str) -> dict[str, Any]:
    """What question and caption rows say about their picture; the size is that of the upload, turned by 90 degrees."""
    return {
        "image_id": image,
        "image_classes": ["Mobile phone", "Telephone"],
        "flickr_original_url": f"https://farm6.staticflickr.com/{image}_o.jpg",
        "flickr_300k_url": f"https://c4.staticflickr.com/{image}_z.jpg",
        "image_width": 30,
        "image_height": 40,
        "set_name": "train",
    }


@pytest.fixture
def questions(corpus: Any) -> list[dict[str, Any]]:
    corpus.images(f"{PHONE}.jpg", f"{SIGN}.jpg")
    phone = {"question": "what is the brand of phone?", "question_tokens": ["what", "is"], "question_id": 0}
    sign = {"question": "what does the  sign say?", "question_tokens": [], "question_id": 1}
    return [
        {**_picture(PHONE), **phone, "answers": ["nokia"] * 8 + ["toshiba", "nokia "]},
        {**_picture(SIGN), **sign, "answers": ["no exit", "No Exit", "no entry", "no entry", "no exit", "", "exit"]},
    ]


@pytest.fixture
def captions(corpus: Any) -> list[dict[str, Any]]:
    corpus.images(f"{PHONE}.jpg", f"{SIGN}.jpg")
    said = ["a black nokia phone is on a table", "a nokia phone, 10:45 on its display\n"]
    rows = []
    for number, caption in enumerate(said):
        own = {"image_name": PHONE, "image_path": f"train/{PHONE}.jpg", "caption_id": number, "caption_str": caption}
        rows.append({**_picture(PHONE), **own, "caption_tokens": [], "reference_strs": said, "reference_tokens": []})
    return [*rows, {**rows[0], "image_id": SIGN, "caption_str": "a sign says no exit"}]


def _word(text: Any, x: Any, y: Any, width: Any, height: Any, rotation: Any = 0) -> dict[str, Any]:
    place = {"width": width, "height": height, "rotation": rotation, "roll": 0, "pitch": 0, "yaw": 0}
    return {"word": text, "bounding_box": {**place, "top_left_x": x, "top_left_y": y}}


@pytest.fixture
def words(corpus: Any) -> list[dict[str, Any]]:
    corpus.images(f"{PHONE}.jpg", f"{SIGN}.jpg")
    phone = [_word("NOKIA", 0.25, 0.5, 0.5, 0.1), _word("10:45", 0.9, 0.1, 0.2, 0.25)]
    sign = [_word("NO", 0.0, 0.0, 0.25, 0.5, rotation=3.5), _word("EXIT", 0.5, 0.0, 0.25, 0.5, rotation=-40.0)]
    return [
        {"image_id": PHONE, "ocr_tokens": ["NOKIA", "10:45"], "ocr_info": phone},
        {"image_id": SIGN, "ocr_tokens": ["NO", "EXIT"], "ocr_info": sign},
    ]


def test_the_published_questions_are_read_without_a_reject(corpus: Any, questions: Any) -> None:
    corpus.write(QUESTIONS.path, _head("0.5.1", questions))
    phone, sign = corpus.read(QUESTIONS)
    assert not corpus.rejects
    assert (phone.id, phone.image.path, phone.image.width) == (f"d/{PHONE}", f"images/{PHONE}.jpg", 40)
    given = ("nokia",) * 8 + ("toshiba", "nokia")
    assert phone.questions == (Question("0", "what is the brand of phone?", "nokia", given),)
    (question,) = sign.questions
    assert question.text == "what does the sign say?"
    assert question.answers == ("no exit", "No Exit", "no entry", "no entry", "no exit", "exit")


def test_of_answers_given_equally_often_the_first_is_agreed(corpus: Any, questions: Any) -> None:
    questions[1]["answers"] = ["b", "a", "c", "a", "b", "c"]
    corpus.write(QUESTIONS.path, _head("0.5.1", questions))
    assert corpus.read(QUESTIONS)[1].questions[0].answer == "b"


def test_words_come_with_pixel_boxes_where_they_are_upright(corpus: Any, words: Any) -> None:
    corpus.write(OCR.path, _head("0.2", words))
    phone, sign = corpus.read(OCR)
    assert not corpus.rejects
    assert phone.lines == (
        TextLine(f"{PHONE}-0", "NOKIA", (10.0, 15.0, 30.0, 18.0)),
        TextLine(f"{PHONE}-1", "10:45", (36.0, 3.0, 40.0, 10.5)),  # its box reached 4 pixels out of the image
    )
    assert sign.lines == (TextLine(f"{SIGN}-0", "NO", (0.0, 0.0, 10.0, 15.0)), TextLine(f"{SIGN}-1", "EXIT"))
    assert corpus.tally.mended == {"box_clipped": 1, "box_turned": 1}


@pytest.mark.parametrize("order", [(QUESTIONS, OCR), (OCR, QUESTIONS)])
def test_an_answer_that_can_be_read_is_extractive_whatever_the_order_of_files(
    corpus: Any, questions: Any, words: Any, order: Any
) -> None:
    corpus.write(QUESTIONS.path, _head("0.5.1", [*questions, {**questions[1], "question_id": 2, "answers": ["xit"]}]))
    corpus.write(OCR.path, _head("0.2", words))
    phone, sign = corpus.read(*order)
    assert phone.questions[0].extractive  # one word, in other case
    assert [(q.answer, q.extractive) for q in sign.questions] == [("no exit", True), ("xit", False)]
    assert len(phone.lines) == len(sign.lines) == 2 and not corpus.rejects


def test_each_row_of_textcaps_is_one_caption(corpus: Any, captions: Any) -> None:
    corpus.write(CAPTIONS.path, _head("0.1", captions))
    phone, sign = corpus.read(CAPTIONS)
    assert not corpus.rejects
    assert phone.captions == (
        Caption(f"{PHONE}-0", "a black nokia phone is on a table"),
        Caption(f"{PHONE}-1", "a nokia phone, 10:45 on its display"),
    )
    assert sign.captions == (Caption(f"{SIGN}-0", "a sign says no exit"),)


def test_all_three_meet_on_the_image(corpus: Any, questions: Any, captions: Any, words: Any) -> None:
    for file, rows in ((QUESTIONS, questions), (CAPTIONS, captions), (OCR, words)):
        corpus.write(file.path, _head("0.1", rows))
    phone, _ = corpus.read(QUESTIONS, CAPTIONS, OCR)
    assert (len(phone.questions), len(phone.captions), len(phone.lines)) == (1, 2, 2)
    assert [file.path for file in phone.files] == [QUESTIONS.path, CAPTIONS.path, OCR.path]


def test_rows_of_another_split_are_passed_over_and_the_test_split_is_unanswered(corpus: Any, questions: Any) -> None:
    questions[0]["set_name"] = "val"
    questions[1]["set_name"] = "test"
    del questions[1]["answers"]
    corpus.write(QUESTIONS.path, _head("0.5.1", questions))
    assert corpus.read(QUESTIONS) == [] and not corpus.rejects
    assert len(corpus.read(QUESTIONS, split="validation")) == 1 and not corpus.rejects
    assert corpus.read(QUESTIONS, split="test") == []
    assert corpus.reasons() == {"question/1": "question_unanswered"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"answers": []}, "question_unanswered"),
        ({"answers": ["", " "]}, "question_unanswered"),
        ({"answers": "nokia"}, "row_malformed"),
        ({"answers": ["nokia", 7]}, "row_malformed"),
        ({"question": ""}, "question_empty"),
        ({"question": ["what"]}, "row_malformed"),
        ({"image_id": ""}, "row_malformed"),
        ({"image_id": True}, "row_malformed"),
        ({"set_name": 1}, "row_malformed"),
    ],
)
def test_bad_questions_are_rejected_with_their_reason(corpus: Any, questions: Any, change: Any, reason: str) -> None:
    questions[0].update(change)
    corpus.write(QUESTIONS.path, _head("0.5.1", questions))
    assert [image.id for image in corpus.read(QUESTIONS)] == [f"d/{SIGN}"]
    assert corpus.reasons() == {"question/0": reason}


@pytest.mark.parametrize(
    ("change", "key", "reason"),
    [
        ({"caption_str": " "}, f"{PHONE}-0", "caption_empty"),
        ({"caption_str": None}, f"{PHONE}-0", "caption_empty"),
        ({"caption_str": ["a phone"]}, f"{PHONE}-0", "row_malformed"),
        ({"image_id": None}, "0", "row_malformed"),
        ({"caption_id": 1}, f"{PHONE}-1", "duplicate_id"),
    ],
)
def test_bad_captions_are_rejected_with_their_reason(
    corpus: Any, captions: Any, change: Any, key: str, reason: str
) -> None:
    captions[0].update(change)
    corpus.write(CAPTIONS.path, _head("0.1", captions))
    phone, _ = corpus.read(CAPTIONS)
    assert len(phone.captions) == 1
    assert corpus.reasons() == {f"caption/{key}": reason}


def test_captions_without_an_id_are_named_by_their_place(corpus: Any, captions: Any) -> None:
    for row in captions:
        del row["caption_id"]
    corpus.write(CAPTIONS.path, _head("0.1", captions))
    assert [c.id for image in corpus.read(CAPTIONS) for c in image.captions] == [
        f"{PHONE}-#0",
        f"{PHONE}-#1",
        f"{SIGN}-#2",
    ]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        (_word("", 0, 0, 1, 1), "line_empty"),
        (_word(5, 0, 0, 1, 1), "row_malformed"),
        ({"bounding_box": None}, "row_malformed"),
        ("NOKIA", "row_malformed"),
        (None, "row_malformed"),
        (_word("NOKIA", "0.25", 0, 1, 1), "row_malformed"),
        (_word("NOKIA", 0.25, 0, 1, None), "row_malformed"),
        (_word("NOKIA", 0.25, 0, 1, 1, rotation="no"), "row_malformed"),
        ({"word": "NOKIA", "bounding_box": [0, 0, 1, 1]}, "row_malformed"),
        (_word("NOKIA", 0.25, 0, 0, 1), "box_degenerate"),
        (_word("NOKIA", 0.25, 0, float("nan"), 1), "box_degenerate"),
        (_word("NOKIA", 10**400, 0, 1, 1), "box_degenerate"),
        (_word("NOKIA", 250, 100, 50, 20), "box_degenerate"),  # pixels where fractions belong: all of it is outside
    ],
)
def test_bad_words_are_rejected_one_by_one(corpus: Any, words: Any, word: Any, reason: str) -> None:
    words[0]["ocr_info"][0] = word
    corpus.write(OCR.path, _head("0.2", words))
    phone, sign = corpus.read(OCR)
    assert [line.text for line in phone.lines] == ["10:45"] and len(sign.lines) == 2
    assert corpus.reasons() == {f"line/{PHONE}-0": reason}


def test_a_word_may_come_without_a_box(corpus: Any, words: Any) -> None:
    words[0]["ocr_info"][0] = {"word": "NOKIA", "confidence": 0.9}
    corpus.write(OCR.path, _head("0.2", words))
    assert corpus.read(OCR)[0].lines[0] == TextLine(f"{PHONE}-0", "NOKIA")
    assert not corpus.rejects


@pytest.mark.parametrize(
    ("row", "key", "reason"),
    [
        ({"image_id": PHONE, "ocr_tokens": ["NOKIA"]}, PHONE, "row_malformed"),
        ({"image_id": PHONE, "ocr_info": "NOKIA"}, PHONE, "row_malformed"),
        ({"ocr_info": [_word("NOKIA", 0, 0, 1, 1)]}, "#0", "row_malformed"),
        ([], "#0", "row_malformed"),
        ({"image_id": SIGN, "ocr_info": [_word("NO", 0, 0, 1, 1)]}, f"{SIGN}-0", "duplicate_id"),
    ],
)
def test_an_image_whose_words_cannot_be_told_is_one_reject(
    corpus: Any, words: Any, row: Any, key: str, reason: str
) -> None:
    corpus.write(OCR.path, _head("0.2", [row, words[1]]))
    (sign,) = corpus.read(OCR)
    assert sign.id == f"d/{SIGN}" and len(sign.lines) == 2
    assert corpus.reasons() == {f"line/{key}": reason}


def test_a_missing_image_takes_its_words_and_questions_with_it(corpus: Any, questions: Any, words: Any) -> None:
    (corpus.root / f"images/{PHONE}.jpg").unlink()
    corpus.write(QUESTIONS.path, _head("0.5.1", questions))
    corpus.write(OCR.path, _head("0.2", words))
    assert len(corpus.read(QUESTIONS, OCR)) == 1
    lost = [f"image/{PHONE}", "question/0", f"line/{PHONE}-0", f"line/{PHONE}-1"]
    assert corpus.reasons() == dict.fromkeys(lost, "image_missing")
