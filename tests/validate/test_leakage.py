"""Held-out data in training: by picture, by group, and by the wording of a task kind."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vistune.errors import VistuneError
from vistune.hashing import shuffled
from vistune.records import conversation
from vistune.sources import BenchmarkItem
from vistune.store import read_samples
from vistune.validate.leakage import Clusters, refuse_held_out_wording, wording


def showing(world, split, source, save):
    """The samples of one `split` image, which now shows the picture of the file `source` written anew."""
    old = next(s for s in world.samples if s.split == split).images[0]
    with Image.open(world.sources / source) as picture:
        image = world.add_image(picture.convert("RGB"), f"copies/{split}{save['suffix']}", **save["options"])
    rows = [
        replace(s, images=(image,), group=image.sha256, regions=()) if s.images == (old,) else s for s in world.samples
    ]
    rows = [s for s in rows if s.images != (image,) or s.task != "locate"]
    return rows, sorted(s.id for s in rows if s.images == (image,))


SAME = {"suffix": ".bmp", "options": {}}
LOSSY = {"suffix": ".jpg", "options": {"quality": 85}}


@pytest.mark.parametrize(("save", "how"), [(SAME, "has the pixels of"), (LOSSY, "nearly equals")])
@pytest.mark.parametrize("benchmark", ["which_of_two_trained", "presence_trained"])
def test_training_rows_with_a_benchmark_picture_are_removed(world, no_suite, benchmark, save, how):
    rows, ids = showing(world, "train", f"{benchmark}/images/1.png", save)
    summary = world.run(rows)
    assert summary["counts"]["rejected"] == {f"leakage:{benchmark}": len(ids)}
    assert summary["metrics"]["leaked"] == len(ids)
    shown = summary["details"]["rejects"][f"leakage:{benchmark}"]["examples"]
    assert [e["id"] for e in shown] == ids[:3]
    assert f"its image {how} the image of {benchmark}/1" in shown[0]["detail"]
    assert not {s.id for s in read_samples(world.output)} & set(ids)


def test_question_level_removes_only_rows_that_ask_the_benchmark_question(world, no_suite):
    rows, ids = showing(world, "train", "presence_trained/images/0.png", LOSSY)
    question = "Is there a cat in the picture?"  # the benchmark's own, about this picture
    target = next(s for s in rows if s.id in ids and s.task == "caption")
    asks = replace(target, instruction=question, messages=conversation([(question, target.response)]))
    rows = [asks if s.id == target.id else s for s in rows]
    rows = [s for s in rows if s.id == target.id or s.id not in ids or s.instruction != question]
    expected = sorted(s.id for s in rows if s.id in ids)

    summary = world.run(rows, decontaminate="question")
    assert summary["counts"]["rejected"] == {"leakage:presence_trained": 1}
    (shown,) = summary["details"]["rejects"]["leakage:presence_trained"]["examples"]
    assert shown["id"] == target.id
    assert shown["detail"].endswith("and it asks the same.")
    assert world.run(rows)["counts"]["rejected"] == {"leakage:presence_trained": len(expected)}


@pytest.mark.parametrize("save", [SAME, LOSSY])
def test_a_picture_in_two_splits_leaves_training(world, no_suite, save):
    held = next(s for s in world.samples if s.split == "validation").images[0]
    rows, ids = showing(world, "train", held.path, save)
    summary = world.run(rows)
    assert summary["counts"]["rejected"] == {"leakage:validation": len(ids)}
    kept = list(read_samples(world.output))
    assert sum(s.split == "validation" for s in kept) == sum(s.split == "validation" for s in rows)


def test_a_group_stays_in_one_split_through_a_chain(world, no_suite):
    """Two different pictures of one group (say, one video): one near a validation picture takes both from training."""
    held = next(s for s in world.samples if s.split == "validation").images[0]
    rows, ids = showing(world, "train", held.path, LOSSY)
    leaked = next(s for s in rows if s.id in ids)
    other = next(s.images[0] for s in rows if s.split == "train" and s.id not in ids)
    chained = [replace(s, group=leaked.group) if s.images == (other,) else s for s in rows]
    expected = sum(s.images == (other,) for s in rows) + len(ids)
    assert world.run(chained)["counts"]["rejected"] == {"leakage:validation": expected}


def test_near_duplicates_within_a_split_stay_and_share_a_group(world, no_suite):
    first = next(s for s in world.samples if s.split == "train").images[0]
    second = next(s.images[0] for s in world.samples if s.split == "train" and s.images[0] != first)
    rows, ids = showing(world, "train", second.path, LOSSY)
    summary = world.run(rows)
    assert summary["counts"]["rejected"] == {}
    assert summary["metrics"]["near_duplicate_images"] == 2
    groups = {s.id: s.group for s in read_samples(world.output)}
    twins = {groups[s.id] for s in rows if s.id in ids or s.images == (second,)}
    assert len(twins) == 1
    assert len(set(groups.values())) == 7  # 8 pictures, two of them alike


@pytest.mark.parametrize(
    "question",
    [
        "Which is in the picture, a dog or a hot dog?",
        "which is in the picture: the bus or an owl? Answer with its name.",
        "WHICH IS IN THE PICTURE, A CAT, OR A BUS",
    ],
)
def test_wording_of_a_never_trained_kind_stops_the_run_naming_rows(world, no_suite, question):
    target = world.pick("caption")
    rows = world.change(target, instruction=question, messages=conversation([(question, target.response)]))
    with pytest.raises(VistuneError) as error:
        world.run(rows)
    assert "1 training rows ask in the words of a task kind" in str(error.value)
    assert f"{target.id} asks {question!r} as which_of_two_trained does" in str(error.value)


def test_wording_in_a_later_turn_is_found_and_in_validation_allowed(world):
    items = [BenchmarkItem("b/1", "b", "Is it a cat or a dog today?", ("cat", "dog"), "cat", None, "which_of_two", "")]
    dialogue = world.pick("conversation")
    turns = [("What is shown?", "A cat."), ("Is it an owl or a bus today?", "A cat.")]
    asks = replace(dialogue, messages=conversation(turns))
    with pytest.raises(VistuneError, match="as b does"):
        refuse_held_out_wording([asks], items)
    assert refuse_held_out_wording([replace(asks, split="validation"), dialogue], items) == 1


def test_a_question_that_is_nearly_all_choice_matches_only_itself(world):
    """ "a cat or a dog?" without its choices is no wording at all: it must not condemn every question with "or"."""
    items = [BenchmarkItem("b/1", "b", "A cat or a dog?", ("cat", "dog"), "cat", None, "which_of_two", "")]
    target = world.pick("caption")
    other = replace(target, instruction="An owl or a bus?", messages=conversation([("An owl or a bus?", "An owl.")]))
    assert refuse_held_out_wording([other], items) == 1
    same = replace(target, instruction="a Cat, or a dog", messages=conversation([("a Cat, or a dog", "A cat.")]))
    with pytest.raises(VistuneError):
        refuse_held_out_wording([same], items)


def test_trained_wording_is_allowed(world, no_suite):
    """presence_trained asks in the words of training, and is declared to."""
    assert any(s.instruction == "Is there a cat in the picture?" for s in world.samples if s.split == "train")
    assert world.run(world.samples)["counts"]["rejected"] == {}


def test_wording_of_chinese_questions():
    assert wording("图中是猫还是狗？", ("猫", "狗")) == "图 中 是 _ 还 是 _"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=20), st.integers(0, 99))
def test_clusters_do_not_depend_on_the_order_of_joins(pairs, seed):
    def named(order):
        clusters = Clusters()
        for a, b in order:
            clusters.join(str(a), str(b))
        return {n: clusters.find(n) for n in map(str, range(13))}

    mixed = shuffled([pair[::-1] for pair in pairs], seed)
    once = named(pairs)
    assert once == named(mixed)
    assert all(once[str(a)] == once[str(b)] for a, b in pairs)
    assert all(root == min(n for n in once if once[n] == root) for root in once.values())
