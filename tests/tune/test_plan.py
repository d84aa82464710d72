"""Plans are pure functions of their arguments, keep what they are given, and respect their budget."""

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vistune.boxcodec import NATIVE
from vistune.errors import VistuneError
from vistune.models import family
from vistune.models.reader import Reader, prepared
from vistune.models.tiny import byte_tokenizer, tokenizer_for
from vistune.records import ImageRef, Lineage, Message, Region, Sample, conversation
from vistune.store import add_image, describe_image
from vistune.tune import StageParams
from vistune.tune.lengths import Lengths
from vistune.tune.packed import packed
from vistune.tune.plan import make, select
from vistune.tune.rows import Batches, Builder
from vistune.tune.work import validation

SMALL = family("small")
READER = Reader(SMALL, SMALL.preset("tiny"), byte_tokenizer())


def sample(image: int, n: int, task: str = "presence", answer: str = "yes", **over) -> Sample:
    base = {
        "id": f"vt1:{image}-{task}-{n}",
        "dataset": "d",
        "split": "train",
        "task": task,
        "method": "adapt",
        "instruction": "is it?",
        "input": "",
        "response": answer,
        "messages": conversation([("is it?", answer)]),
        "images": (ImageRef(f"{image:064d}", 64, 64, "png", "x.png"),),
        "lineage": Lineage(f"d/{image}", (str(n),), ()),
        "licence": "MIT",
        "group": str(image),
        "regions": (Region((0, 0, 64, 32), "sky", "1"),),
    }
    return Sample(**{**base, **over})


def stage(**over) -> StageParams:
    base = {"name": "s", "objective": "instruct", "steps": 5, "learning_rates": {"connector": 1e-3}, "batch": 3}
    return StageParams(**{**base, **over})


def many(images: int, per_image: int = 3) -> list[Sample]:
    tasks = ("presence", "counting")
    return [sample(i, n, t) for i in range(images) for t in tasks for n in range(per_image)]


def plan(rows, seed=0, **over):
    return make(select(rows, stage(**over), 0), READER, stage(**over), seed)


@settings(max_examples=30, deadline=None)
@given(images=st.integers(1, 9), steps=st.integers(1, 9), batch=st.integers(1, 5), seed=st.integers(0, 99))
def test_as_many_steps_as_asked_and_a_pack_for_every_process(images, steps, batch, seed):
    made = plan(many(images), seed, steps=steps, batch=batch, max_tokens=90)
    assert [len(step) for step in made.steps] == [batch] * steps
    assert all(sum(v.tokens for v in one) <= 90 for step in made.steps for one in step)
    assert all(any(step) for step in made.steps), "no step without anything to learn"


def test_a_plan_depends_on_nothing_but_its_arguments():
    a, b, c = plan(many(7), 1), plan(list(reversed(many(7))), 1), plan(many(7), 2)
    assert a == b and a.steps != c.steps


def test_an_epoch_reads_every_picture_once():
    made = plan(many(7), steps=0, epochs=1.0, mixture={"presence": 2, "counting": 1}, max_tokens=200)
    visits = [v for step in made.steps for one in step for v in one]
    seen = [made.samples[n].images[0].sha256 for v in visits for n in v.samples[:1]]
    assert sorted(seen) == sorted(f"{n:064d}" for n in range(7))
    assert all(len(v.samples) == 3 for v in visits)
    assert made.describe()["epochs_by_dataset"] == {"d": 0.5}  # 3 of the 6 samples of each picture


def test_epochs_choose_anew():
    made = plan(many(3), steps=0, epochs=2.0, mixture={"presence": 1})
    used = [n for step in made.steps for one in step for v in one for n in v.samples]
    assert len(used) == 6 and len(set(used)) > 3


def test_a_step_of_so_many_samples():
    """Published batches count samples: a step has as many packs as these need, and processes share them."""
    made = plan(many(8), steps=0, epochs=1.0, samples=4, max_tokens=60, mixture={"presence": 1})
    used = [[n for one in step for v in one for n in v.samples] for step in made.steps]
    assert [len(step) for step in used] == [4, 4]
    packs = [len(step) for step in made.steps]
    assert packs[0] > 1
    each = [[len(p) for _, p, _ in Batches(Builder(READER, None, stage()), made, rank, 3).passes] for rank in range(3)]
    assert len({len(passes) for passes in each}) == 1, "every process has a pass in every step"
    assert sum(map(sum, each)) == sum(-(-n // 3) * 3 for n in packs)


def test_the_slowest_process_of_a_step():
    """One process waits for none; of as many as there are packs, all wait for the costliest pack."""
    made = plan(many(7), max_tokens=90)
    costs = [sum(visit.cost for visit in one) for one in made.steps[0]]
    assert made.slowest(0, 1) == 1.0
    assert made.slowest(0, 3) == pytest.approx(3 * max(costs) / sum(costs), abs=1e-4) and made.slowest(0, 3) >= 1


def test_neither_steps_nor_epochs():
    with pytest.raises(VistuneError, match="training stage s has neither steps nor epochs"):
        plan(many(2), steps=0)


def test_the_planned_tokens_are_an_upper_bound_of_what_is_read():
    made = plan(many(5), max_tokens=300, mixture={"presence": 3})
    for step in made.steps:
        for one in step:
            readings = [[READER.read(made.samples[n].messages, [(64, 64)]) for n in visit.samples] for visit in one]
            row = packed(READER, readings, [[] for _ in readings]) if one else None
            assert row is None or row.tokens <= sum(v.tokens for v in one)


def test_too_long_samples_are_left_out_with_their_length():
    long = [sample(1, 0, answer="y" * 500), *many(2)]
    made = plan(long)
    assert re.fullmatch(r"5\d\d tokens, at most 320 fit", made.left_out["vt1:1-presence-0"]) and len(made.left_out) == 1
    assert made.describe()["left_out"] == 1
    with pytest.raises(
        VistuneError, match=r"can use none of its 1 samples .*longest 4.*vt1:1-presence-0: \d+ tokens of its own"
    ):
        plan([sample(1, 0)], longest=4)


def test_what_the_template_refuses_is_left_out_with_the_reason():
    odd = sample(1, 9, messages=(Message("user", "a"), Message("user", "b", (0,))))
    made = plan([odd, *many(2)])
    assert "turn 1 is the user's" in made.left_out[odd.id]


def test_text_and_several_pictures_are_read_too():
    text = sample(1, 0, images=(), messages=(Message("user", "hi"), Message("assistant", "ho")))
    two = sample(2, 0, images=(sample(2, 0).images[0], sample(3, 0).images[0]))
    two = replace(two, messages=(Message("user", "same?", (0, 1)), Message("assistant", "no")))
    lengths = Lengths([text, two], READER, stage())
    assert lengths.fits(0) and lengths.fits(1) and not lengths.left_out
    assert lengths.known[0].visual == 0 and lengths.known[1].visual == 8
    assert lengths.known[1].tokens > lengths.known[0].tokens + 2 * 4
    made = plan([text, two])
    assert {len(made.samples[n].images) for s in made.steps for p in s for v in p for n in v.samples} == {0, 2}


def test_select_by_task_language_dataset_and_split():
    samples = [*many(2), sample(5, 0, language="zh"), sample(6, 0, split="test"), sample(7, 0, dataset="e")]
    assert len(select(samples, stage(mixture={"presence": 1}, datasets=("d",)), 0)) == 6
    assert [s.images[0].sha256[-1] for s in select(samples, stage(images=1, datasets=("e",)), 0)] == ["7"]
    with pytest.raises(VistuneError, match=r"training stage s finds no samples: split train, datasets \['x'\]"):
        select(samples, stage(datasets=("x",)), 0)


def test_a_small_data_set_is_read_more_than_once_an_epoch():
    rows = many(9) + [
        replace(one, id=f"vt1:e{one.id[4:]}", dataset="e", images=(ImageRef("e" * 64, 64, 64, "png", "x.png"),))
        for one in many(1)
    ]
    made = plan(rows, steps=0, epochs=1.0, alpha=0.0, mixture={"presence": 1}, max_tokens=900)
    assert made.describe()["visits"] == 10
    assert made.describe()["epochs_by_dataset"] == {"d": round(10 / 54, 3), "e": round(10 / 6, 3)}
    read = [
        n
        for step in made.steps
        for one in step
        for visit in one
        for n in visit.samples
        if made.samples[n].dataset == "e"
    ]
    assert len(set(read)) > 1, "another choice at each visit"


def test_held_out_samples_are_read_once_whatever_the_mixture():
    """A cap on a data set that has no held-out samples stands in the way of nothing."""
    rows = [replace(one, split="validation") for one in many(3)]
    mixed = stage(alpha=0.0, caps={"coco": 1}, mixture={"presence": 1, "counting": 1})
    made = validation(rows, READER, mixed, 0)
    assert made.describe()["visits"] == 3


def test_a_stage_reads_with_its_own_template():
    other = READER.at(stage(template="plain"))
    assert other.preset.template == "plain" and READER.preset.template == "chatml"
    assert READER.at(stage()) is READER


def test_marked_samples_do_not_share_a_picture(tmp_path):
    """Two ask about a box each, two about none; a fifth cannot be marked."""
    vip = family("vip_llava")
    reader = Reader(vip, vip.preset("tiny"), prepared(tokenizer_for(vip.preset("tiny")), vip.preset("tiny")))
    Image.new("RGB", (64, 64), (128, 128, 128)).save(tmp_path / "grey.png")
    image = add_image(tmp_path, tmp_path / "grey.png", describe_image(tmp_path, "grey.png"))
    rows = [sample(0, n, images=(image,), regions=()) for n in range(2)]
    for n, box in enumerate([(0.0, 0.0, 32.0, 32.0), (32.0, 32.0, 64.0, 64.0), (5.0, 5.0, 5.0, 9.0)], 2):
        text = NATIVE.encode((0, 0, 32, 32), 64, 64)
        region = Region(box, "sky", str(n), 0, (0, 10, 10 + len(text)))
        rows.append(
            sample(0, n, images=(image,), regions=(region,), messages=conversation([(f"What's in {text}?", "x")]))
        )
    made = make(rows, reader, one := stage(steps=0, epochs=1.0, batch=1, max_tokens=900, mixture={"presence": 9}), 0)
    visits = [visit for step in made.steps for pack in step for visit in pack]
    assert {tuple(sorted(visit.samples)) for visit in visits} == {(0, 1), (2,), (3,)}
    assert "has no area" in made.left_out[rows[4].id]
    for visit in visits:
        assert [made.lengths[n].tokens for n in visit.samples] == [
            reader.read_sample(rows[n]).length for n in visit.samples
        ]
    seen = {
        min(v.samples): Builder(reader, tmp_path, one).batch(made, [(v,)]).row.inputs["pixel_values"] for v in visits
    }
    plain, first, second = (seen[n][0] for n in (0, 2, 3))
    assert (plain != first).any() and (plain != second).any() and (first != second).any()
