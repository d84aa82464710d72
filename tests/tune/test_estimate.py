"""Estimated plans: equal to exact ones where text is as long as its bytes, and as near as they say where it is not."""

from dataclasses import replace

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from vistune.hashing import choose, keyed
from vistune.models import family
from vistune.models.reader import Reader, prepared
from vistune.models.tiny import tokenizer_for
from vistune.models.vlm import empty
from vistune.records import ImageRef, Lineage, Message, Region, Sample, conversation
from vistune.tune import StageParams, estimate
from vistune.tune.estimate import Estimates
from vistune.tune.operations import Operations
from vistune.tune.plan import make

SIZES = [(64, 64), (96, 64), (64, 128)]
WORDS = ["a", "the", "dog", "window", "yellow", "bicycles", "standing", "near", "photograph", "two"]
STAGE = StageParams("s", "instruct", {"connector": 1e-3, "language": 1e-3}, epochs=1.0, batch=2, max_tokens=2048)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(estimate, "READ", 20)


def words(*key) -> str:
    return " ".join(choose(WORDS, 0, *key, n) for n in range(3 + keyed(0, "length", *key) % 20))


def sample(n: int, turns: int = 1, shown: bool = True, **over) -> Sample:
    messages = conversation([(f"{words(n, t, 'q')}?", words(n, t, "a")) for t in range(turns)])
    width, height = choose(SIZES, 0, n // 2)
    base = {
        "id": f"vt1:{n:06d}",
        "dataset": "d",
        "split": "train",
        "task": "vqa",
        "method": "adapt",
        "instruction": "",
        "input": "",
        "response": "",
        "messages": messages if shown else (replace(messages[0], images=()), *messages[1:]),
        "images": (ImageRef(f"{n // 2:064d}", width, height, "png", "x.png"),) if shown else (),
        "lineage": Lineage("d", (str(n),), ()),
        "licence": "MIT",
        "group": "g",
    }
    return Sample(**{**base, **over})


def many(count: int) -> list[Sample]:
    return [sample(n, 1 + n % 3, n % 5 > 0) for n in range(count)]


def planned(samples, reader, stage=STAGE, operations=None):
    """The plan by estimates, the exact one, and what was estimated."""
    lengths = Estimates(samples, reader, stage, operations)
    near = make(samples, reader, stage, 0, operations, lengths)
    return near, make(samples, reader, stage, 0, operations), lengths


@pytest.mark.parametrize("name", ["small", "llava_next", "qwen2_vl", "cogagent", "minicpm_v"])
def test_where_a_token_is_a_byte_the_estimate_is_exact(name):
    """One picture's views, anyres, its own positions, experts by token type, and slices by the number of pictures."""
    vlm = empty(name, "tiny")
    near, exact, lengths = planned(many(150), vlm.reader, operations=Operations(vlm, STAGE))
    assert lengths.estimated > 60 and lengths.error < 1e-9
    assert near.left_out == exact.left_out
    for n, length in exact.lengths.items():
        assert near.lengths[n][:-1] == length[:-1], samples_shown(n)
        assert near.lengths[n].cost == pytest.approx(length.cost, rel=1e-9)
    assert [[[v.samples for v in p] for p in step] for step in near.steps] == [
        [[v.samples for v in p] for p in step] for step in exact.steps
    ]


def samples_shown(n: int) -> str:
    return f"sample {n} of {1 + n % 3} turns, {'with a picture' if n % 5 else 'text'}"


@pytest.fixture(scope="module")
def merging() -> Reader:
    """Reads with a tokenizer that merges bytes, so that a word is one token or several."""
    small = family("small")
    preset = small.preset("tiny")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator([" ".join(WORDS)] * 5, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    return Reader(small, preset, prepared(tokenizer, preset))


def test_totals_are_as_near_as_it_says(merging):
    near, exact, lengths = planned(many(600), merging)
    assert lengths.estimated > 450
    found, true = (sum(length.tokens for length in plan.lengths.values()) for plan in (near, exact))
    assert found != true and abs(found / true - 1) <= lengths.error < 0.02
    assert near.describe()["steps"] == pytest.approx(exact.describe()["steps"], rel=0.05)


def test_what_is_left_out_and_what_is_longest_are_not_estimated(merging):
    """By the budget, by a sample's own length, for its turns, for its pictures; each met after the first samples."""
    rows = many(200)
    odd = (Message("user", "a"), Message("user", "b", (0,)))
    long = " ".join(WORDS * 40)
    rows += [
        sample(300, messages=conversation([("what is it?", long)])),
        sample(302, messages=conversation([("what is it?", " ".join(WORDS * 9))])),
        *(sample(n, messages=odd) for n in (304, 306)),
        sample(308, messages=(Message("user", "both?", (0, 1)), Message("assistant", "no"))),
    ]
    stage = replace(STAGE, max_tokens=300, longest=250)
    near, exact, lengths = planned(rows, merging, stage)
    assert lengths.estimated > 100
    assert near.left_out == exact.left_out and len(exact.left_out) >= 4
    assert near.describe()["longest_sample"] == exact.describe()["longest_sample"]


def test_marked_pictures_are_read_with_their_sample():
    vip = family("vip_llava")
    preset = vip.preset("tiny")
    reader = Reader(vip, preset, prepared(tokenizer_for(preset), preset))
    box = Region((0.0, 0.0, 32.0, 32.0), "sky", "1")
    rows = [sample(2 * n, regions=(box,) if n % 2 else ()) for n in range(80)]
    near, exact, lengths = planned(rows, reader)
    assert 0 < lengths.estimated <= 40
    assert near.left_out == exact.left_out and near.lengths == exact.lengths


def test_a_small_release_is_read_whole():
    vlm = empty("small", "tiny")
    near, exact, lengths = planned(many(15), vlm.reader)
    assert near == exact and lengths.estimated == 0 and lengths.error == 0
