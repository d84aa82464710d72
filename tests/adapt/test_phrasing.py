"""The shipped templates are whole, and a defective file is refused with the file and the template named."""

from functools import cache

import pytest
import yaml

from vistune.adapt import phrasing
from vistune.adapt.language import LANGUAGES
from vistune.adapt.phrasing import FOLDER, SLOTS, load
from vistune.adapt.tasks import TASKS
from vistune.errors import VistuneError

FILLED = {
    "caption": "CAPTION",
    "things": "THINGS",
    "count": "COUNT",
    "number": "NUMBER",
    "box": "BOX",
    "other": "OTHER",
    "names": "NAMES",
    "question": "QUESTION",
    "answer": "ANSWER",
}
EVERY = [(code, task, kind) for code in LANGUAGES for task in SLOTS for kind in SLOTS[task].kinds]


@cache
def shipped(code):
    return load(LANGUAGES[code])


@cache
def lines(code):
    return tree(code)


def tree(code):
    return yaml.safe_load((FOLDER / f"{code}.yaml").read_text(encoding="utf-8"))


def test_every_task_has_slots():
    assert list(SLOTS) == list(TASKS)


@pytest.mark.parametrize(("code", "task", "kind"), EVERY)
def test_every_template_renders(code, task, kind):
    language = LANGUAGES[code]
    slots = {**language.forms("NAME"), **FILLED}
    for phrase in shipped(code)[task][kind]:
        rendered = [text.format_map(slots) for text in (phrase.instruction, phrase.input, phrase.user, phrase.response)]
        assert not any("{" in text or "}" in text for text in rendered)
        instruction, extra, user, response = rendered
        assert instruction.strip()
        assert response.strip() and response == response.strip()
        if extra:
            assert user.split("\n")[1] == extra
            assert extra not in instruction
        else:
            assert user == instruction
        asked = {"locate": "NAME", "name_region": "BOX", "vqa": "QUESTION", "relative_position": "OTHER"}.get(task, "")
        assert user.count(asked) == 1 or not asked


@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.parametrize("task", SLOTS)
def test_every_language_phrases_every_task_in_at_least_six_ways(code, task):
    node = lines(code)[task]
    texts = {(entry["text"], entry.get("input", "")) for entry in node["instructions"]}
    assert len(texts) == len(node["instructions"]) >= 6
    formats = [form["text"] for form in node["formats"]]
    assert len(set(formats)) == len(formats) >= 2


@pytest.mark.parametrize("code", LANGUAGES)
def test_short_answers_are_the_majority(code):
    for task, node in lines(code).items():
        weights = {form["id"]: form["weight"] for form in node["formats"]}
        assert weights.get("sentence", 0) <= 0.25 * sum(weights.values()), task


@pytest.mark.parametrize("code", LANGUAGES)
def test_instruction_and_format_are_crossed_and_recorded(code):
    phrases = shipped(code)["presence"]["present"]
    node = lines(code)["presence"]
    weight = sum(form["weight"] for form in node["formats"])
    assert len(phrases) == len(node["instructions"]) * weight
    assert f"presence.{code}.03@1+yes_no@1" in {p.template for p in phrases}
    assert len({p.template for p in phrases}) == len(node["instructions"]) * len(node["formats"])


def test_closed_questions_list_their_choices():
    phrases = {p.template.split("+")[1]: p for p in shipped("en")["presence"]["absent"]}
    assert phrases["yes_no@1"].choices == ("yes", "no")
    assert phrases["sentence@1"].choices == ()
    sides = {p.template.split("+")[1]: p for p in shipped("en")["relative_position"]["below"]}
    assert sides["word@1"].choices == ("left", "right", "above", "below")
    assert sides["word@1"].response == "below"


def test_chinese_is_punctuated_in_full_width():
    for task, node in lines("zh").items():
        for entry in (*node["instructions"], *node["formats"]):
            plain = entry["text"].replace("[x1, y1, x2, y2]", "")
            assert not set(plain) & set(",?!;:"), (task, entry["id"])
            assert not entry["text"] or entry["text"][-1] in "。？}", (task, entry["id"])


@pytest.mark.parametrize("code", LANGUAGES)
def test_the_held_out_task_kind_is_asked_nowhere(code):
    for node in lines(code).values():
        for entry in node["instructions"]:
            assert not entry["text"].lower().startswith(("which one", "which of")), entry["id"]
            assert " or {other}" not in entry["text"] and "还是{other}" not in entry["text"], entry["id"]


def spoil(tmp_path, change):
    node = tree("en")
    change(node)
    path = tmp_path / "en.yaml"
    path.write_text(yaml.safe_dump(node, allow_unicode=True), encoding="utf-8")
    with pytest.raises(VistuneError) as caught:
        load(LANGUAGES["en"], tmp_path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("task", "key", "values", "named", "problem"),
    [
        ("presence", "instructions", {"text": "Is {nmae} here?"}, "presence.en.01", "unknown slot {nmae}"),
        ("presence", "instructions", {"text": "Is {name!r} here?"}, "presence.en.01", "unknown slot {name!r}"),
        ("counting", "instructions", {"text": "How many {plural:>9}?"}, "counting.en.01", "unknown slot {plural:>9}"),
        ("locate", "instructions", {"text": "Where is it?"}, "locate.en.01", "should use {name} or {a_name}"),
        ("vqa", "instructions", {"text": "Say {question"}, "vqa.en.01", "stray brace"),
        ("vqa", "instructions", {"text": ""}, "vqa.en.01", "should use {question}"),
        ("caption", "instructions", {"text": " "}, "caption.en.01", "its text is empty"),
        ("caption", "instructions", {"text": True}, "caption.en.01", "True is no text"),
        ("caption", "instructions", {"id": "caption.en.02"}, "caption.en.02", "the id occurs twice"),
        ("caption", "instructions", {"id": "captions.en.01"}, "captions.en.01", "should start with caption.en."),
        ("caption", "instructions", {"version": 0}, "caption.en.01", "expected an integer"),
        ("caption", "instructions", {"verson": 1}, "caption.en.01", "did you mean version"),
        (
            "caption",
            "formats",
            {"response": "{caption}"},
            "caption format plain",
            "a text for each of written, composed",
        ),
        ("presence", "formats", {"response": {"yes": "Yes"}}, "presence format plain", "'yes' is none of present"),
        ("presence", "formats", {"text": "About {name}:"}, "presence format plain", "no slots"),
        ("presence", "formats", {"weight": 1.5}, "presence format plain", "weight is 1.5"),
        ("locate", "formats", {"response": "{boxes}"}, "locate format box", "unknown slot {boxes}"),
    ],
)
def test_a_bad_entry_is_named(tmp_path, task, key, values, named, problem):
    message = spoil(tmp_path, lambda node: node[task][key][0].update(values))
    assert named in message
    assert problem in message


def test_a_missing_task_an_unknown_task_and_an_uncovered_kind(tmp_path):
    assert "no templates for vqa" in spoil(tmp_path, lambda node: node.pop("vqa"))
    assert "did you mean vqa" in spoil(tmp_path, lambda node: node.update(vqas=node.pop("vqa")))
    assert "presence: no format words the response 'absent'" in spoil(
        tmp_path, lambda node: [form["response"].pop("absent") for form in node["presence"]["formats"]]
    )
    assert "locate.en.03: version is None" in spoil(tmp_path, lambda n: n["locate"]["instructions"][2].pop("version"))
    assert "caption: it lacks formats" in spoil(tmp_path, lambda node: node["caption"].pop("formats"))
    assert "instructions should be a list" in spoil(tmp_path, lambda node: node["caption"].update(instructions=[]))


def test_a_broken_or_missing_file(tmp_path):
    (tmp_path / "en.yaml").write_text("caption: [", encoding="utf-8")
    with pytest.raises(VistuneError, match="not valid YAML"):
        load(LANGUAGES["en"], tmp_path)
    with pytest.raises(VistuneError, match=r"zh\.yaml does not exist"):
        load(LANGUAGES["zh"], tmp_path)


def test_languages_are_ordered_by_share_and_checked():
    assert [language.code for language in phrasing.languages({"zh": 0.1, "en": 1.0})] == ["en", "zh"]
    assert [language.code for language in phrasing.languages({"zh": 1.0, "en": 0.0})] == ["zh"]
    with pytest.raises(VistuneError, match=r"unknown parameter adapt\.languages\.de"):
        phrasing.languages({"de": 1.0})
    with pytest.raises(VistuneError, match="expected a share from 0 to 1"):
        phrasing.languages({"en": 1.5})
    with pytest.raises(VistuneError, match="no language"):
        phrasing.languages({})
