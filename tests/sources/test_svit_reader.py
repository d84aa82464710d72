"""SVIT: several conversations about each image of Visual Genome."""

from typing import Any

from vistune.records import Message
from vistune.sources import AnnotationFile


def _said(*texts: str) -> dict[str, Any]:
    return {"content": [{"from": ("user", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]}


def test_conversations_are_dialogues_each(corpus: Any) -> None:
    corpus.images("2.jpg", "3.jpg")
    boxed = "Where is <st>the man<ed> [0.196, 0.003, 0.776, 0.968]?"
    talks = [_said("What?", "A cat.", "Where?", "Inside.") | {"topic": "pets"}, _said("Why?", "Because.")]
    corpus.write("conversation.json", [{"image_id": 2, "conversations": talks}])
    corpus.write(
        "referring_qa.json", [{"image_id": 3, "conversations": [_said(boxed, "<st>Here<ed> [0.1, 0, 1, 1].")]}]
    )
    found = corpus.read(AnnotationFile("svit", "conversation.json"), AnnotationFile("svit", "referring_qa.json"))
    assert not corpus.rejects
    assert [d.id for d in found] == ["d/conversation/2/0", "d/conversation/2/1", "d/referring_qa/3/0"]
    assert [d.task for d in found] == ["conversation", "conversation", "referring_qa"]
    assert [m.text for m in found[0].messages] == ["What?", "A cat.", "Where?", "Inside."]
    assert found[2].messages[0] == Message("user", boxed, (0,))


def test_each_defect_is_one_reject_with_its_reason(corpus: Any) -> None:
    corpus.images("2.jpg")
    whole = _said("What?", "A cat.")
    human = {"content": [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A cat."}]}
    rows: list[Any] = [
        {"image_id": 2, "conversations": [whole, _said("What?"), _said("", "A cat."), human, {"topic": "x"}, 5]},
        {"image_id": 9, "conversations": [whole]},
        {"image_id": 2, "conversations": []},
        {"conversations": [whole]},
        {"image_id": 2},
        "text",
    ]
    corpus.write("detail_description.json", rows)
    assert len(corpus.read(AnnotationFile("svit", "detail_description.json"))) == 1
    expected = {"2/1": "answer_missing", "2/2": "text_empty", "2/3": "role_unknown", "9/0": "image_missing"}
    expected |= dict.fromkeys(["2/4", "2/5", "None/0"], "row_malformed")
    named = {f"dialogue/detail_description/{name}": reason for name, reason in expected.items()}
    assert corpus.reasons() == named | dict.fromkeys([f"dialogue/#{n}" for n in (7, 9, 10)], "row_malformed")
