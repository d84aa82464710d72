"""The lm-eval model: grouping, conditions, resume."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.api.instance import Instance

from vistune.errors import VistuneError
from vistune.evaluate import engine
from vistune.evaluate import lm as lm_module
from vistune.evaluate.images import Features, derangement, shown
from vistune.evaluate.lm import LogLikelihood, VistuneLM
from vistune.evaluate.responses import ResponseLog
from vistune.records import ImageRef

QUESTIONS = [("Is there a cat?", ("yes", "no")), ("What is on the left?", ("a cat", "dog", "fire engine"))]


def ranking(images: list[ImageRef]) -> list[Instance]:
    return [
        Instance("loglikelihood", {}, (question, choice, {"visual": [asdict(image)]}), n, ("t", 0, 1))
        for image in images
        for question, choices in QUESTIONS
        for n, choice in enumerate(choices)
    ]


def free(images: list[ImageRef], **arguments: Any) -> list[Instance]:
    given = {"until": [], "max_gen_toks": 5, **arguments}
    asked = [(QUESTIONS[0][0], given, {"visual": [asdict(image)]}) for image in images]
    return [Instance("generate_until", {}, parts, 0, ("t", 0, 1)) for parts in asked]


@pytest.fixture
def make(tiny_model: Any, pictures: tuple[Path, list[ImageRef]], tmp_path: Path) -> Iterator[Callable[..., VistuneLM]]:
    logs: list[ResponseLog] = []

    def lm(log: str = "log", **more: Any) -> VistuneLM:
        for old in logs:
            old.__exit__()
        logs.append(ResponseLog(tmp_path / f"{log}.jsonl").__enter__())
        return VistuneLM(tiny_model, Features(tiny_model, pictures[0]), logs[-1], "model", **more)

    yield lm
    for log in logs:
        log.__exit__()


def test_scores_do_not_depend_on_order_or_batches(make: Any, pictures: tuple[Path, list[ImageRef]]) -> None:
    requests = ranking(pictures[1])
    alone = make("alone")
    reference = [alone.loglikelihood([request])[0] for request in requests]
    for tokens in (1, 200, 4096):
        order = sorted(range(len(requests)), key=lambda n: (n * 7) % len(requests))
        found = make(f"b{tokens}", batch_tokens=tokens).loglikelihood([requests[n] for n in order])
        for n, one in zip(order, found, strict=True):
            assert one[0] == pytest.approx(reference[n][0], abs=1e-4)
            assert (one[1], one.tokens) == (reference[n][1], reference[n].tokens)


def test_the_image_matters(make: Any, pictures: tuple[Path, list[ImageRef]]) -> None:
    found = make().loglikelihood(ranking(pictures[1]))
    assert len({round(one[0], 7) for one in found[::5]}) == len(pictures[1])


def test_each_picture_is_encoded_once(make: Any, pictures: tuple[Path, list[ImageRef]], monkeypatch: Any) -> None:
    lm = make()
    encoded: list[int] = []
    encode = lm.model.encode_images
    monkeypatch.setattr(lm.model, "encode_images", lambda images: encoded.append(len(images)) or encode(images))
    lm.loglikelihood(ranking(pictures[1]))
    lm.generate_until(free(pictures[1]))
    assert sum(encoded) == len(pictures[1])


def test_equal_questions_are_asked_once(make: Any, pictures: tuple[Path, list[ImageRef]]) -> None:
    lm = make(shown=lambda image: None)
    found = lm.loglikelihood(ranking(pictures[1]))
    assert lm.cost["questions"] == len(QUESTIONS)
    assert len({one[0] for one in found[::5]}) == 1


def test_prefix_is_computed_once_per_image(make: Any, pictures: tuple[Path, list[ImageRef]]) -> None:
    lm = make()
    lm.loglikelihood(ranking(pictures[1][:1]))
    chat = lm.model.chat
    added = sum(len(chat.question(q)) + sum(len(chat.answer(c)) - 1 for c in cs) for q, cs in QUESTIONS)
    assert lm.cost["tokens"] == len(chat.prefix()) + added


def test_shuffled_shows_the_partner(make: Any, pictures: tuple[Path, list[ImageRef]]) -> None:
    refs = pictures[1]
    see = shown("shuffled", {"pool": refs}, seed=4)
    shuffled = make("s", shown=see).loglikelihood(ranking(refs))
    true = make("t").loglikelihood(ranking([see(image) for image in refs]))
    assert [one[0] for one in shuffled] == [one[0] for one in true]


@given(st.sets(st.text("abcdef0123456789", min_size=4, max_size=4), min_size=2, max_size=30), st.integers(0, 9))
def test_derangement_moves_every_image_and_uses_each_once(names: set[str], seed: int) -> None:
    refs = [ImageRef(name, 1, 1, "png", name) for name in names]
    partner = derangement(refs, seed, "pool")
    assert all(sha != image.sha256 for sha, image in partner.items())
    assert sorted(image.sha256 for image in partner.values()) == sorted(names)
    assert partner == derangement(sorted(refs, key=lambda r: r.path, reverse=True), seed, "pool")


def test_pools_are_shuffled_apart() -> None:
    refs = [ImageRef(name, 1, 1, "png", name) for name in "abcdef"]
    see = shown("shuffled", {"one": refs[:3], "two": refs[3:]}, seed=0)
    assert {see(r).path for r in refs[:3]} == {"a", "b", "c"}
    with pytest.raises(VistuneError, match="at least 2 different images in one; there is 1"):
        shown("shuffled", {"one": refs[:1]}, seed=0)


class Crash(Exception):
    pass


def test_a_killed_run_repeats_only_unfinished_batches(
    make: Any, pictures: tuple[Path, list[ImageRef]], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = ranking(pictures[1])
    whole = make("whole", batch_tokens=200)
    expected = whole.loglikelihood(requests)
    assert whole.cost["batches"] > 2
    real, calls = engine.score, 0

    def dies(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Crash
        return real(*args)

    monkeypatch.setattr(engine, "score", dies)
    with pytest.raises(Crash):
        make("killed", batch_tokens=200).loglikelihood(requests)
    monkeypatch.setattr(engine, "score", real)
    resumed = make("killed", batch_tokens=200)
    found = resumed.loglikelihood(requests)
    assert resumed.cost["batches_from_log"] == 2
    assert resumed.cost["batches"] == whole.cost["batches"] - 2
    assert found == expected, "a resumed run computes the same batches, so its answers are equal bit for bit"
    assert [one.tokens for one in found] == [one.tokens for one in expected]


def test_free_answers_resume_too(make: Any, pictures: tuple[Path, list[ImageRef]]) -> None:
    first = make("g").generate_until(free(pictures[1]))
    again = make("g")
    assert again.generate_until(free(pictures[1])) == first
    assert again.cost["batches"] == 0


def test_another_model_or_limit_is_not_served_from_the_log(make: Any, pictures: tuple[Path, list[ImageRef]]) -> None:
    make("x").generate_until(free(pictures[1]))
    other = make("x")
    other.fingerprint = "other"
    other.generate_until(free(pictures[1]))
    longer = make("x")
    longer.generate_until(free(pictures[1], max_gen_toks=6))
    assert (other.cost["batches"], longer.cost["batches"]) == (1, 1)


def test_stop_strings_cut_and_sampling_is_refused(
    make: Any, pictures: tuple[Path, list[ImageRef]], monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = make()
    monkeypatch.setattr(lm_module, "decode_greedy", lambda *_: [lm.model.chat.text("a cat. No, a dog!")])
    assert lm.generate_until(free(pictures[1][:1])) == ["a cat. No, a dog!"]
    assert lm.generate_until(free(pictures[1][:1], until=["!", ". "])) == ["a cat"]
    assert lm.generate_until(free(pictures[1][:1], until=" No")) == ["a cat."]
    with pytest.raises(VistuneError, match="decodes greedily only"):
        lm.generate_until(free(pictures[1][:1], do_sample=True))


def test_what_it_cannot_do_is_said(make: Any, pictures: tuple[Path, list[ImageRef]]) -> None:
    lm = make()
    two = {"visual": [asdict(i) for i in pictures[1][:2]]}
    with pytest.raises(VistuneError, match="shows 2 images in one question"):
        lm.loglikelihood([Instance("loglikelihood", {}, ("q", "a", two), 0, ("t", 0, 1))])
    with pytest.raises(VistuneError, match="gives str as its visual"):
        lm.loglikelihood([Instance("loglikelihood", {}, ("q", "a", {"visual": ["x.png"]}), 0, ("t", 0, 1))])
    with pytest.raises(VistuneError, match="perplexity"):
        lm.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, ("text",), 0, ("wiki", 0, 1))])
    with pytest.raises(VistuneError, match="user, assistant, user"):
        lm.apply_chat_template([{"role": r, "content": ""} for r in ("user", "assistant", "user")])
    assert lm.apply_chat_template([{"role": "user", "content": "Why?"}]) == "Why?"
    assert lm.loglikelihood([Instance("loglikelihood", {}, ("text only", "a"), 0, ("t", 0, 1))])[0].tokens == 2


def test_log_likelihood_is_the_pair_lm_eval_expects() -> None:
    one = LogLikelihood(-3.0, True, 2)
    total, greedy = one
    assert (total, greedy, one.mean) == (-3.0, True, -1.5)
