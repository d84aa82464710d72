"""The shipped templates are whole, and a defective file is refused with the file and the template named."""

import json
import re
import shutil
from functools import cache

import pytest

from vistune.adapt import phrasing
from vistune.adapt.language import AGREEING, LANGUAGES
from vistune.adapt.phrasing import FOLDER, FRAMES, filler, load
from vistune.adapt.slots import SLOTS
from vistune.adapt.tasks import TASKS
from vistune.errors import VistuneError
from vistune.params import read_tree

EVERY = [(code, task, kind) for code in LANGUAGES for task in SLOTS for kind in SLOTS[task]]
ENDS = {"en": ('."', ".", "?", "!"), "zh": ("。", "？", "！", "。”")}


@cache
def shipped(code):
    return load(LANGUAGES[code])


@cache
def tree(code):
    """All files of a language as one."""
    files = [read_tree(path.read_text(encoding="utf-8"), path.name) for path in sorted((FOLDER / code).glob("*.yaml"))]
    return {task: node for file in files for task, node in file.items()}


def filled(code, task, kind):
    """Values of all slots of a kind, each recognisable."""
    language, slots = LANGUAGES[code], SLOTS[task][kind]
    names = [s for group in (*slots.asks, *slots.answers, *slots.hints) for s in language.slots(group)]
    return {name: f"«{name}»" for name in names}


def test_every_task_has_slots():
    assert list(SLOTS) == list(TASKS)


@pytest.mark.parametrize(("code", "task", "kind"), EVERY)
def test_every_template_renders(code, task, kind):
    slots, language = filled(code, task, kind), LANGUAGES[code]
    for phrase in shipped(code).tasks[task][kind]:
        rendered = [text.format_map(slots) for text in (phrase.instruction, phrase.input, phrase.user, phrase.response)]
        instruction, extra, user, response = rendered
        for text in rendered:
            assert "{" not in text.replace('{"', "") and "  " not in text and text == text.strip()
        assert instruction and response
        if extra:
            assert "\n" + extra in user
            assert extra not in instruction
        else:
            assert user == instruction
        for slot in SLOTS[task][kind].asks:  # what is asked about is said once, forms that agree with it apart
            said = [n for n in language.slots(slot) if n not in AGREEING]
            assert sum(user.count(f"«{n}»") for n in said) == 1, (phrase.template, slot)


def test_a_text_is_filled_as_str_format_map_fills_it():
    slots = {"a": "{b} %s", "b": "50 %"}
    for text in ("", "plain", "100 %", "%s {a}", "{a}{b}{a}", "{{a}} {b}", "{{}} %d", "é {a}\n{{ {b} }}"):
        assert filler(text)(slots) == text.format_map(slots)
    with pytest.raises(KeyError):
        filler("{c}")(slots)


@pytest.mark.parametrize(("code", "task"), [(code, task) for code in LANGUAGES for task in SLOTS])
def test_every_language_phrases_every_task_in_at_least_ten_ways(code, task):
    node = tree(code)[task]
    texts = {(entry["text"], entry.get("input", "")) for entry in node["instructions"]}
    assert len(texts) == len(node["instructions"]) - _shared_by_kinds(node) >= 10
    formats = [form["text"] for form in node["formats"]]
    assert len(set(formats)) == len(formats) >= 2
    for kind in SLOTS[task]:
        assert len([e for e in node["instructions"] if kind in e.get("kinds", [kind])]) >= 4, kind


def _shared_by_kinds(node):
    """Texts that occur twice for different kinds of fact."""
    seen = [(e["text"], e.get("input", "")) for e in node["instructions"]]
    return len(seen) - len(set(seen))


@pytest.mark.parametrize("code", LANGUAGES)
def test_no_text_is_repeated_within_a_kind(code):
    for task, kinds in SLOTS.items():
        for kind in kinds:
            entries = [e for e in tree(code)[task]["instructions"] if kind in e.get("kinds", [kind])]
            texts = [(e["text"], e.get("input", "")) for e in entries]
            assert len(set(texts)) == len(texts), (task, kind)


@pytest.mark.parametrize("code", LANGUAGES)
def test_texts_end_as_sentences_do(code):
    for task in SLOTS:
        node = tree(code)[task]
        for entry in (*node["instructions"], *node["formats"]):
            text = entry["text"]
            assert not text or text.endswith((*ENDS[code], "}")), entry["id"]
            assert text == text.strip() and "  " not in text
        for form in node["formats"]:
            wordings = form["response"] if isinstance(form["response"], dict) else {"": form["response"]}
            if form["id"] == "sentence":
                assert all(w.endswith((*ENDS[code], "}")) for w in wordings.values()), (task, wordings)
    assert all(frame.text.endswith(ENDS[code]) for frame in shipped(code).frames)


@pytest.mark.parametrize("code", LANGUAGES)
def test_short_answers_are_the_majority(code):
    for task in SLOTS:
        if task == "vqa_sentence":
            continue
        weights = {form["id"]: form["weight"] for form in tree(code)[task]["formats"]}
        assert weights.get("sentence", 0) <= 0.25 * sum(weights.values()), task


def test_languages_offer_the_same_formats():
    for task in SLOTS:
        english, chinese = ([(f["id"], f["weight"]) for f in tree(code)[task]["formats"]] for code in ("en", "zh"))
        assert english == chinese, task


@pytest.mark.parametrize("code", LANGUAGES)
def test_instruction_and_format_are_crossed_and_recorded(code):
    phrases = shipped(code).tasks["presence"]["present"]
    node = tree(code)["presence"]
    weight = sum(form["weight"] for form in node["formats"])
    assert len(phrases) == len(node["instructions"]) * weight
    assert f"presence.{code}.03@1+yes_no@1" in {p.template for p in phrases}
    assert len({p.template for p in phrases}) == len(node["instructions"]) * len(node["formats"])


def test_kinds_limit_what_an_instruction_asks_for():
    phrases = shipped("en").tasks["attribute"]
    assert {p.template.split("@")[0] for p in phrases["color"]} == {f"attribute.en.0{n}" for n in range(1, 5)}
    assert all("made" in p.instruction or "material" in p.instruction for p in phrases["material"])


def test_closed_questions_list_their_choices():
    phrases = {p.template.split("+")[1]: p for p in shipped("en").tasks["presence"]["absent"]}
    assert phrases["yes_no@1"].choices == ("yes", "no")
    assert phrases["sentence@1"].choices == ()
    sides = {p.template.split("+")[1]: p for p in shipped("en").tasks["relative_position"]["below"]}
    assert sides["word@1"].choices == ("left", "right", "above", "below")
    assert sides["word@1"].response == "below"
    shares = {p.template.split("+")[1]: p for p in shipped("en").tasks["area_share"]["over50"]}
    assert len(shares["range@1"].choices) == 5
    assert shares["percent@1"].choices == ()
    assert all(choice in shares["range@1"].instruction for choice in shares["range@1"].choices)


def test_chinese_is_punctuated_in_full_width():
    for task in SLOTS:
        node = tree("zh")[task]
        for entry in (*node["instructions"], *node["formats"]):
            plain = re.sub(r"\{\w+\}|\[x1, y1, x2, y2\]", "", entry["text"] + entry.get("input", ""))
            assert not set(plain) & set(',?!;:"'), (task, entry["id"])


@pytest.mark.parametrize("code", LANGUAGES)
def test_the_held_out_task_kind_is_asked_nowhere(code):
    for task in SLOTS:
        for entry in tree(code)[task]["instructions"]:
            assert not entry["text"].lower().startswith(("which one", "which of")), entry["id"]
            assert " or {other}" not in entry["text"] and "还是{other}" not in entry["text"], entry["id"]


@pytest.mark.parametrize("code", LANGUAGES)
def test_the_question_does_not_tell_whether_the_thing_is_there(code):
    found, absent = tree(code)["refer"], tree(code)["refer_absent"]
    assert [(e["text"], e.get("input")) for e in found["instructions"]] == [
        (e["text"], e.get("input")) for e in absent["instructions"]
    ]
    assert [(f["text"], f["weight"]) for f in found["formats"]] == [(f["text"], f["weight"]) for f in absent["formats"]]
    assert tree(code)["refer"]["formats"][0]["id"] == "or_none"


@pytest.mark.parametrize("code", LANGUAGES)
def test_frames_say_how_boxes_are_written(code):
    frames = shipped(code).frames
    assert len(frames) >= 3
    assert all("[x1, y1, x2, y2]" in f.text and "999" in f.text for f in frames)
    for task in SLOTS:  # and no other text does, or an export in another format would leave it behind
        node = tree(code)[task]
        assert not any("999" in e["text"] + e.get("input", "") for e in (*node["instructions"], *node["formats"]))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*/*.yaml")), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_every_file_states_its_licence(path):
    assert "Apache-2.0" in path.read_text(encoding="utf-8").split("\n\n")[0]


def spoil(tmp_path, change, file="objects", code="en"):
    folder = tmp_path / code
    shutil.copytree(FOLDER / code, folder)
    path = folder / f"{file}.yaml"
    node = read_tree(path.read_text(encoding="utf-8"), path.name)
    change(node)
    path.write_text(json.dumps(node), encoding="utf-8")  # JSON is YAML
    with pytest.raises(VistuneError) as caught:
        load(LANGUAGES[code], tmp_path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("task", "key", "values", "named", "problem"),
    [
        ("presence", "instructions", {"text": "Is {nmae} here?"}, "presence.en.01", "unknown slot {nmae}"),
        ("presence", "instructions", {"text": "Is {name!r} here?"}, "presence.en.01", "unknown slot {name!r}"),
        ("counting", "instructions", {"text": "How many {plural:>9}?"}, "counting.en.01", "unknown slot {plural:>9}"),
        ("locate", "instructions", {"text": "Where {is} it?"}, "locate.en.01", "should use {name} or {a_name}"),
        ("vqa", "instructions", {"text": "Say {question"}, "vqa.en.01", "stray brace"),
        ("vqa", "instructions", {"text": ""}, "vqa.en.01", "should use {question}"),
        ("vqa_choice", "instructions", {"input": ""}, "vqa_choice.en.01", "should use {options}"),
        ("caption", "instructions", {"text": " "}, "caption.en.01", "its text is empty"),
        ("caption", "instructions", {"text": True}, "caption.en.01", "True is no text"),
        ("caption", "instructions", {"id": "caption.en.02"}, "caption.en.02", "the id occurs twice"),
        ("caption", "instructions", {"id": "captions.en.01"}, "captions.en.01", "should start with caption.en."),
        ("caption", "instructions", {"version": 0}, "caption.en.01", "expected an integer"),
        ("caption", "instructions", {"verson": 1}, "caption.en.01", "did you mean version"),
        ("attribute", "instructions", {"kinds": ["colour"]}, "attribute.en.01", "a list of color, material, other"),
        ("attribute", "instructions", {"kinds": []}, "attribute.en.01", "a list of color, material, other"),
        ("relation", "instructions", {"kinds": ["object"]}, "relation.en.01", "unknown slot {is}"),
        ("relation", "instructions", {"kinds": ["predicate", "object"]}, "relation.en.01", "unknown slot {is}"),
        (
            "caption",
            "formats",
            {"response": "{caption}"},
            "caption format plain",
            "a text for each of written, composed",
        ),
        ("caption", "formats", {"response": {"written": "{things}"}}, "caption format plain", "unknown slot {things}"),
        ("presence", "formats", {"response": {"yes": "Yes"}}, "presence format plain", "'yes' is none of present"),
        ("presence", "formats", {"text": "About {name}:"}, "presence format plain", "no slots"),
        ("presence", "formats", {"text": "Say the {mark}."}, "presence format plain", "unknown slot {mark}"),
        ("presence", "formats", {"weight": 1.5}, "presence format plain", "weight is 1.5"),
        ("locate", "formats", {"response": "{boxes}"}, "locate format box", "unknown slot {boxes}"),
        ("extremes", "formats", {"response": {"named": "{box}"}}, "extremes format plain", "unknown slot {box}"),
    ],
)
def test_a_bad_entry_is_named(tmp_path, task, key, values, named, problem):
    (file,) = (p.stem for p in (FOLDER / "en").glob("*.yaml") if f"\n{task}:" in p.read_text("utf-8"))
    message = spoil(tmp_path, lambda node: node[task][key][0].update(values), file)
    assert named in message
    assert problem in message


def test_a_kind_that_nothing_asks_for_or_words(tmp_path):
    assert "presence: no format words the response 'absent'" in spoil(
        tmp_path / "a", lambda node: [form["response"].pop("absent") for form in node["presence"]["formats"]]
    )
    assert "image_label: no instruction asks for the kind 'open'" in spoil(
        tmp_path / "b", lambda n: n["image_label"].update(instructions=n["image_label"]["instructions"][7:])
    )


def test_a_task_that_is_misspelled_or_lacks_a_part(tmp_path):
    assert "did you mean listing" in spoil(tmp_path / "a", lambda node: node.update(listings=node.pop("listing")))
    assert "counting.en.03: version is None" in spoil(
        tmp_path / "b", lambda n: n["counting"]["instructions"][2].pop("version")
    )
    assert "counting: it lacks formats" in spoil(tmp_path / "c", lambda node: node["counting"].pop("formats"))
    assert "instructions should be a list" in spoil(tmp_path / "d", lambda n: n["counting"].update(instructions=[]))


def test_a_task_that_is_missing_or_in_two_files(tmp_path):
    shutil.copytree(FOLDER / "en", tmp_path / "en")
    shutil.copy(tmp_path / "en/text.yaml", tmp_path / "en/more.yaml")
    with pytest.raises(VistuneError, match=r"text\.yaml: transcription has templates in .*more\.yaml too"):
        load(LANGUAGES["en"], tmp_path)
    (tmp_path / "en/more.yaml").unlink()
    (tmp_path / "en/text.yaml").unlink()
    (tmp_path / "en/boxes.yaml").unlink()
    with pytest.raises(VistuneError, match=f"no templates for transcription, {FRAMES}"):
        load(LANGUAGES["en"], tmp_path)


def test_a_broken_file_and_a_missing_folder(tmp_path):
    (tmp_path / "en").mkdir()
    (tmp_path / "en/a.yaml").write_text("caption: [", encoding="utf-8")
    with pytest.raises(VistuneError, match=r"a\.yaml is not valid YAML"):
        load(LANGUAGES["en"], tmp_path)
    with pytest.raises(VistuneError, match=r"zh holds no \.yaml file"):
        load(LANGUAGES["zh"], tmp_path)


def test_a_bad_frame_is_named(tmp_path):
    message = spoil(tmp_path, lambda node: node[FRAMES][1].update(text="Boxes are {box}."), "boxes")
    assert "frame.en.02: unknown slot {box}" in message


def test_languages_are_ordered_by_share_and_checked():
    assert [language.code for language in phrasing.languages({"zh": 0.1, "en": 1.0})] == ["en", "zh"]
    assert [language.code for language in phrasing.languages({"zh": 1.0, "en": 0.0})] == ["zh"]
    with pytest.raises(VistuneError, match=r"unknown parameter adapt\.languages\.de"):
        phrasing.languages({"de": 1.0})
    with pytest.raises(VistuneError, match="expected a share from 0 to 1"):
        phrasing.languages({"en": 1.5})
    with pytest.raises(VistuneError, match="no language"):
        phrasing.languages({})
