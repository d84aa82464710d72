"""Plans are pure functions of their arguments, keep what they are given, and respect their budget."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vistune.errors import VistuneError
from vistune.models.chat import Chat
from vistune.models.families.small import byte_tokenizer
from vistune.records import ImageRef, Lineage, Region, Sample, conversation
from vistune.tune import StageParams
from vistune.tune.rows import Packer, plan, select

TOKENIZER = byte_tokenizer()
CHAT = Chat(TOKENIZER, TOKENIZER.convert_tokens_to_ids("<image>"), 4)


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


@settings(max_examples=40, deadline=None)
@given(images=st.integers(1, 9), steps=st.integers(1, 9), batch=st.integers(1, 5), seed=st.integers(0, 99))
def test_every_step_has_a_full_batch(images, steps, batch, seed):
    made = plan(select(many(images), stage(), 0), CHAT, stage(steps=steps, batch=batch), seed)
    assert [len(b) for b in made.batches] == [batch] * steps


def test_plan_depends_on_nothing_but_its_arguments():
    a = plan(select(many(7), stage(), 0), CHAT, stage(), 1)
    b = plan(select(reversed(many(7)), stage(), 0), CHAT, stage(), 1)
    c = plan(select(many(7), stage(), 0), CHAT, stage(), 2)
    assert a == b
    assert a != c


def test_an_epoch_visits_every_image_once():
    made = plan(select(many(12), stage(), 0), CHAT, stage(steps=4), 0)
    seen = [row.image.sha256 for batch in made.batches for row in batch]
    assert len(set(seen)) == 12


def test_mixture_sets_samples_per_visit_and_epochs_choose_anew():
    params = stage(mixture={"presence": 2, "counting": 1}, steps=8, batch=1)
    by_image = select(many(1), params, 0)
    made = plan(by_image, CHAT, params, 0)
    visits = [tuple(sorted(s.sample for s in batch[0].segments)) for batch in made.batches]
    assert all(len(v) == 3 and sum("presence" in s for s in v) == 2 for v in visits)
    assert len(set(visits)) > 1


@settings(max_examples=30, deadline=None)
@given(budget=st.integers(60, 200), seed=st.integers(0, 9))
def test_rows_never_exceed_the_budget_and_never_cut_a_sample(budget, seed):
    params = stage(max_tokens=budget, mixture={"presence": 3, "counting": 3})
    packer = Packer(select(many(2), params, 0), CHAT, params, seed)
    for image in packer.by_image:
        row = packer.row(image, 0)
        assert row is None or row.length <= budget
        whole = {len(CHAT.turns(s.messages)[0]) for s in many(2)}
        assert row is None or {len(s.ids) for s in row.segments} <= whole


def test_a_sample_longer_than_a_row_is_counted_with_its_length():
    samples = [*many(1), sample(0, 99, answer="x" * 500)]
    made = plan(select(samples, stage(), 0), CHAT, stage(mixture={"presence": 9}, max_tokens=200), 0)
    assert list(made.too_long) == ["vt1:0-presence-99"]
    assert made.too_long["vt1:0-presence-99"] > 500
    assert made.describe()["left_out_too_long"] == 1


def test_a_stage_may_leave_out_long_samples():
    samples = [*many(2), sample(0, 7, answer="a long answer " * 5)]
    params = stage(longest=40, mixture={"presence": 9, "counting": 9}, max_tokens=2000)
    made = plan(select(samples, params, 0), CHAT, params, 0)
    lengths = {s.sample: len(s.ids) for batch in made.batches for row in batch for s in row.segments}
    assert "vt1:0-presence-7" in made.too_long and "vt1:0-presence-7" not in lengths
    assert max(lengths.values()) <= 40


def test_nothing_fits_is_an_error():
    with pytest.raises(VistuneError, match="longer than a row"):
        plan(select(many(1), stage(), 0), CHAT, stage(max_tokens=12), 0)


@pytest.mark.parametrize(
    "over",
    [{"datasets": ("other",)}, {"mixture": {"caption": 1}}, {"languages": ("zh",)}],
)
def test_empty_selection_says_what_was_looked_for(over):
    with pytest.raises(VistuneError, match="finds no samples"):
        select(many(2), stage(**over), 0)


def test_selection_respects_split_dataset_task_and_language():
    samples = [
        sample(0, 0),
        sample(1, 0, split="validation"),
        sample(2, 0, dataset="e"),
        sample(3, 0, task="caption"),
        sample(4, 0, language="zh"),
    ]
    params = stage(datasets=("d",), mixture={"presence": 1})
    assert list(select(samples, params, 0)) == [f"{0:064d}"]
    assert list(select(samples, params, 0, "validation")) == [f"{1:064d}"]
    assert list(select(samples, stage(objective="caption"), 0)) == [f"{3:064d}"]
