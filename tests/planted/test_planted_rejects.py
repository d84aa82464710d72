"""Defects planted in source files, one at a time, in data sets without any: each ends in exactly the expected rejects,
and no row is lost."""

from typing import Any

import pytest
from plants import BOX, Plant, both, file, more, png, row, text, turned

IMAGE_1 = ("image/1", "object/1", "object/2", "caption/1", "question/1")
IMAGE_2 = ("image/2", "object/3", "caption/2", "question/2")
"""Everything that is said of an image goes with it."""


def all_of(keys: tuple[str, ...], reason: str) -> dict[str, str]:
    return dict.fromkeys(keys, reason)


def object_(change: dict[str, Any]) -> Plant:
    return more("boxes.json", "annotations", {**BOX, **change})


REJECTS: list[tuple[str, str, Plant, Any]] = [
    # Boxes.
    ("box leaves the image", "coco", object_({"bbox": [35, 3, 8, 12]}), {"object/9": "box_outside"}),
    ("box of another image", "coco", object_({"bbox": [400, 300, 80, 120]}), {"object/9": "box_outside"}),
    ("box without area", "coco", object_({"bbox": [2, 3, 0, 12]}), {"object/9": "box_degenerate"}),
    ("box of negative width", "coco", object_({"bbox": [20, 3, -8, 12]}), {"object/9": "box_degenerate"}),
    ("box of three numbers", "coco", object_({"bbox": [2, 3, 8]}), {"object/9": "box_degenerate"}),
    ("box that is not a number", "coco", object_({"bbox": [2, 3, float("nan"), 12]}), {"object/9": "box_degenerate"}),
    ("box without end", "coco", object_({"bbox": [2, 3, float("inf"), 12]}), {"object/9": "box_degenerate"}),
    ("fractions for pixels", "coco", object_({"bbox": [0.2, 0.1, 0.5, 0.4]}), {"object/9": "box_fraction"}),
    ("box of texts", "coco", object_({"bbox": ["2", "3", "8", "12"]}), {"object/9": "box_degenerate"}),
    ("no box", "coco", object_({"bbox": None}), {"object/9": "row_malformed"}),
    ("area below zero", "coco", object_({"area": -4.0}), {"object/9": "row_malformed"}),
    ("half a polygon", "coco", object_({"segmentation": [[1, 2, 3, 4, 5]]}), {"object/9": "row_malformed"}),
    ("mask without size", "coco", object_({"segmentation": {"counts": "abc"}}), {"object/9": "row_malformed"}),
    ("x and y swapped", "open_images", text("boxes.csv", "0.1,0.4", "0.4,0.1"), {"object/a-1": "box_degenerate"}),
    ("pixels for fractions", "open_images", text("boxes.csv", "0.1,0.4", "4,16"), {"object/a-1": "box_outside"}),
    ("a cell too few", "open_images", text("boxes.csv", ",0,0,0,0,0\nb", ",0,0\nb"), {"object/#0-1": "row_malformed"}),
    # Ids and references.
    ("id used twice", "coco", object_({"id": 1, "category_id": 2}), {"object/1": "duplicate_id"}),
    ("no id", "coco", object_({"id": None}), {"object/#6": "row_malformed"}),
    ("dangling image", "coco", object_({"image_id": 77}), {"object/9": "image_unknown"}),
    ("no image named", "coco", object_({"image_id": None}), {"object/9": "row_malformed"}),
    ("category not listed", "coco", object_({"category_id": 77}), {"object/9": "category_unknown"}),
    ("row that is no object", "coco", more("boxes.json", "annotations", [1, 2]), {"object/#6": "row_malformed"}),
    (
        "image listed twice",
        "coco",
        lambda files: files["boxes.json"]["images"].append(dict(files["boxes.json"]["images"][0])),  # of both files
        [("image/1", "duplicate_id")] * 2,
    ),
    (
        "licence not listed",
        "coco",
        row("boxes.json", "images", 1, license=7),
        {**all_of(IMAGE_2[1:], "image_unknown"), "image/2": "licence_unknown"},
    ),
    (
        "expression of no object",
        "refcoco",
        lambda files: files.update({"refs.p": files["refs.p"].replace(b"ann_id", b"ann_ix")}),
        all_of(("phrase/1", "phrase/2", "phrase/3"), "row_malformed"),
    ),
    # Pictures.
    ("picture missing", "coco", file("images/2.png", None), all_of(IMAGE_2, "image_missing")),
    ("picture empty", "coco", file("images/2.png", b""), all_of(IMAGE_2, "image_unreadable")),
    ("picture cut short", "coco", file("images/2.png", png()[:60]), all_of(IMAGE_2, "image_unreadable")),
    ("page of an error", "coco", file("images/2.png", b"<html>404</html>"), all_of(IMAGE_2, "image_unreadable")),
    ("another size than declared", "coco", file("images/2.png", png((41, 30))), all_of(IMAGE_2, "image_size")),
    ("turned by EXIF", "coco", file("images/2.png", turned()), all_of(IMAGE_2, "image_size")),
    (
        "name that leaves the folder",
        "coco",
        row("boxes.json", "images", 1, file_name="../2.png"),
        all_of(IMAGE_2, "image_path"),
    ),
    (
        "picture that is a folder",
        "coco",
        both(file("images/2.png", None), file("images/2.png/x", b"")),
        all_of(IMAGE_2, "image_missing"),
    ),
    # Words.
    (
        "caption of white space",
        "coco",
        row("captions.json", "annotations", 0, caption=" \n"),
        {"caption/1": "caption_empty"},
    ),
    (
        "caption that is a number",
        "coco",
        row("captions.json", "annotations", 0, caption=5),
        {"caption/1": "row_malformed"},
    ),
    (
        "half a character",
        "coco",
        row("captions.json", "annotations", 0, caption="A dog \ud83d"),
        {"caption/1": "row_malformed"},
    ),
    (
        "caption about something else",
        "flickr",
        text("UNRELATED_CAPTIONS", "# image caption", "1 2"),
        {"caption/1-2": "caption_unrelated"},
    ),
    ("markup that does not close", "flickr", text("Sentences/1.txt", "dog]", "dog"), {"caption/1-1": "row_malformed"}),
    (
        "chain without boxes",
        "flickr",
        text("Annotations/1.xml", "<name>2<", "<name>9<"),
        {"phrase/1-1.11": "chain_unknown"},
    ),
    (
        "boxes cut short",
        "flickr",
        text("Annotations/1.xml", "</annotation>", ""),
        all_of(("phrase/1-1.0", "phrase/1-1.11"), "boxes_unreadable"),
    ),
    # Questions and answers.
    (
        "question without text",
        "coco",
        row("questions.json", "questions", 0, question=" "),
        {"question/1": "question_empty"},
    ),
    (
        "question without answer",
        "coco",
        lambda files: files["answers.json"]["annotations"].pop(0),
        {"question/1": "question_unanswered"},
    ),
    (
        "answer without question",
        "coco",
        lambda files: files["questions.json"]["questions"].pop(0),
        {"question/1": "answer_unasked"},
    ),
    (
        "answer for another image",
        "coco",
        row("answers.json", "annotations", 0, image_id=2),
        {"question/1": "image_mismatch"},
    ),
    (
        "answer not among the choices",
        "coco",
        row("questions.json", "questions", 0, multiple_choices=["a", "b"]),
        {"question/1": "answer_not_among_choices"},
    ),
    (
        "letter out of range",
        "choices",
        row("aokvqa.json", "", 0, correct_choice_idx=4),
        {"question/q1": "answer_not_among_choices"},
    ),
    (
        "choices that repeat",
        "choices",
        row("aokvqa.json", "", 0, choices=["a", "b", "a", "c"]),
        {"question/q1": "choices_repeated"},
    ),
    (
        "letter for a number",
        "choices",
        row("aokvqa.json", "", 0, correct_choice_idx="B"),
        {"question/q1": "row_malformed"},
    ),
    (
        "split that does not exist",
        "choices",
        row("aokvqa.json", "", 0, split="trian"),
        {"question/q1": "row_malformed"},
    ),
    (
        "table with ragged rows",
        "chart",
        file("train/tables/1.csv", b"Year,Count\n2001\n2002,5\n"),
        {"table/1": "table_ragged"},
    ),
    ("table without rows", "chart", file("train/tables/1.csv", b"Year,Count\n"), {"table/1": "table_empty"}),
    # What is verified.
    (
        "absent, yet annotated",
        "lvis",
        row("lvis.json", "images", 0, neg_category_ids=[1, 3]),
        {"label/1-1": "label_contradicted"},
    ),
    (
        "absent, yet annotated badly",
        "lvis",
        both(
            row("lvis.json", "images", 0, neg_category_ids=[3]),
            more("lvis.json", "annotations", {**BOX, "category_id": 3, "bbox": None}),
        ),
        {"label/1-3": "label_contradicted", "object/9": "row_malformed"},
    ),
    (
        "both present and absent",
        "open_images",
        text("labels.csv", "a,verification,/m/2,0", "a,verification,/m/2,0\na,verification,/m/2,1"),
        [("label/a-/m/2", "label_contradicted")] * 2,
    ),
    (
        "guess of a machine",
        "open_images",
        text("labels.csv", "b,verification", "b,machine"),
        {"label/b-/m/2": "label_unverified"},
    ),
    ("half a verdict", "open_images", text("labels.csv", "/m/2,0", "/m/2,0.5"), {"label/a-/m/2": "row_malformed"}),
    # Ready-made dialogues.
    (
        "more markers than images",
        "llava",
        text("talk.json", "<image>", "<image><image>"),
        {"dialogue/1": "image_count"},
    ),
    ("image without marker", "llava", text("talk.json", "<image>", ""), {"dialogue/1": "image_count"}),
    ("roles out of turn", "llava", text("talk.json", '"human"', '"gpt"'), {"dialogue/1": "roles_not_alternating"}),
    (
        "no answer",
        "llava",
        lambda files: files["talk.json"][0]["conversations"].pop(),
        {"dialogue/1": "answer_missing"},
    ),
    ("empty answer", "llava", text("talk.json", "A dog.", " \\n"), {"dialogue/1": "text_empty"}),
    ("stranger's role", "llava", text("talk.json", '"human"', '"bot"'), {"dialogue/1": "role_unknown"}),
    ("image in an answer", "llava", text("talk.json", "A dog.", "A dog <image>"), {"dialogue/1": "image_in_answer"}),
    (
        "image on the web",
        "llava",
        text("talk.json", '"1.png"', '"https://x.org/1.png"'),
        {"dialogue/1": "image_remote"},
    ),
    ("absolute path", "llava", text("talk.json", '"1.png"', '"/etc/passwd"'), {"dialogue/1": "image_path"}),
    ("image of nothing", "llava", text("talk.json", '"1.png"', "[null]"), {"dialogue/1": "image_empty"}),
    ("video", "llava", row("talk.json", "", 0, video="1.mp4"), {"dialogue/1": "media_unsupported"}),
    ("no turns", "llava", row("talk.json", "", 0, conversations=[]), {"dialogue/1": "turns_missing"}),
    ("turns that are text", "llava", row("talk.json", "", 0, conversations="Hello"), {"dialogue/1": "row_malformed"}),
]


@pytest.mark.parametrize(("name", "plant", "expected"), [c[1:] for c in REJECTS], ids=[c[0] for c in REJECTS])
def test_a_planted_defect_is_rejected(corpus, name, plant, expected, tmp_path):
    damaged = corpus(name)
    plant(damaged.files)
    _, samples, rejects = damaged.adapt(tmp_path / "d")
    assert rejects == sorted(expected.items() if isinstance(expected, dict) else expected)
    gone = {key.removeprefix("image/") for key, reason in rejects if key.startswith("image/")} - {"1"}
    assert not gone & {s.lineage.annotated_image.removeprefix("d/") for s in samples}


def test_clean_files_have_no_rejects(clean, tmp_path):
    counts, samples, rejects = clean.adapt(tmp_path / "d")
    assert rejects == [] and counts["in"] == len(samples) > 2


def test_there_are_enough_of_them():
    assert len({case[0] for case in REJECTS}) == len(REJECTS) >= 30
