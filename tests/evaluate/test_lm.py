"""The lm-eval model: what is asked, what is remembered, what is refused."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.api.instance import Instance
from PIL import Image

from vistune.errors import VistuneError
from vistune.evaluate import decoding
from vistune.evaluate import engine as engines
from vistune.evaluate.images import Pictures, derangement, shown
from vistune.evaluate.lm import LogLikelihood, VistuneLM, fingerprint
from vistune.evaluate.responses import ResponseLog
from vistune.models.vlm import Vlm, build
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


@pytest.fixture(scope="module")
def vlm() -> Vlm:
    return build("small", seed=3)


@pytest.fixture
def make(vlm: Vlm, pictures: tuple[Path, list[ImageRef]], tmp_path: Path) -> Iterator[Callable[..., VistuneLM]]:
    logs: list[ResponseLog] = []

    def lm(log: str = "log", name: str = "model", batch_tokens: int = 2048, **more: Any) -> VistuneLM:
        logs.append(ResponseLog(tmp_path / f"{log}.jsonl").__enter__())
        given = Pictures(pictures[0])
        return VistuneLM(engines.Engine(vlm, given, name, batch_tokens), given, logs[-1], **more)

    yield lm
    for log in logs:
        log.__exit__()


def test_the_image_matters(make: Any, pictures: tuple[Path, list[ImageRef]]) -> None:
    found = make().loglikelihood(ranking(pictures[1]))
    assert len({round(one[0], 7) for one in found[::5]}) == len(pictures[1])


def test_each_picture_is_encoded_once(make: Any, pictures: tuple[Path, list[ImageRef]], monkeypatch: Any) -> None:
    lm = make()
    seen: list[int] = []
    encode = lm.engine.encoded.encode
    monkeypatch.setattr(lm.engine.encoded, "encode", lambda shown: seen.append(len(shown)) or encode(shown))
    lm.loglikelihood(ranking(pictures[1]))
    lm.generate_until(free(pictures[1]))
    assert sum(seen) == len(pictures[1])


def test_what_is_kept_of_pictures_is_bounded(make: Any, pictures: Any, monkeypatch: Any) -> None:
    free_of_bounds = make("a").loglikelihood(ranking(pictures[1]))
    monkeypatch.setattr("vistune.evaluate.images.CACHE_BYTES", 1)
    lm = make("b", batch_tokens=100)
    assert [one[0] for one in lm.loglikelihood(ranking(pictures[1]))] == pytest.approx([o[0] for o in free_of_bounds])
    assert len(lm.engine.encoded.kept) == 1


def test_equal_questions_are_asked_once(make: Any, pictures: tuple[Path, list[ImageRef]]) -> None:
    lm = make(shown=lambda image: None)
    found = lm.loglikelihood(ranking(pictures[1]))
    assert lm.cost["questions"] == len(QUESTIONS)
    assert len({one[0] for one in found[::5]}) == 1


def test_prefix_is_computed_once_per_image(make: Any, pictures: Any, monkeypatch: Any) -> None:
    lm = make()
    lengths: list[int] = []
    prefix = lm.engine.trunk.prefix
    monkeypatch.setattr(
        lm.engine.trunk, "prefix", lambda rs, *rest: lengths.extend(r.length for r in rs) or prefix(rs, *rest)
    )
    many = [
        Instance("loglikelihood", {}, (f"Is it number {n}?", "yes", {"visual": [asdict(image)]}), 0, ("t", 0, 1))
        for image in pictures[1]
        for n in range(10)
    ]
    lm.loglikelihood(many)
    assert len(lengths) == len(pictures[1]) and min(lengths) > len(b"Is it number ")


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


def test_a_killed_run_repeats_only_unfinished_batches(make: Any, pictures: Any, monkeypatch: Any) -> None:
    requests = ranking(pictures[1])
    whole = make("whole", batch_tokens=200)
    expected = whole.loglikelihood(requests)
    assert whole.cost["batches"] > 2
    real, calls = decoding.run, 0

    def dies(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Crash
        return real(*args)

    monkeypatch.setattr(decoding, "run", dies)
    with pytest.raises(Crash):
        make("killed", batch_tokens=200).loglikelihood(requests)
    monkeypatch.setattr(decoding, "run", real)
    resumed = make("killed", batch_tokens=200)
    found = resumed.loglikelihood(requests)
    assert resumed.cost["batches_from_log"] == 2
    assert resumed.cost["batches"] == whole.cost["batches"] - 2
    assert found == expected, "a resumed run computes the same batches, so its answers are equal bit for bit"
    assert [one.tokens for one in found] == [one.tokens for one in expected]
    assert resumed.cost["tokens"] == whole.cost["tokens"], "the cost is that of all answers"


def test_of_more_requests_only_the_new_are_computed(make: Any, pictures: Any, monkeypatch: Any) -> None:
    requests = ranking(pictures[1])
    make("more").loglikelihood(requests[:12])
    computed: list[Any] = []
    real = decoding.score
    monkeypatch.setattr(decoding, "score", lambda *args: computed.extend(found := real(*args)) or found)
    expected = make("all").loglikelihood(requests)
    computed.clear()
    found = make("more").loglikelihood(requests)
    assert len(computed) == len(requests) - 12
    assert [one[0] for one in found] == pytest.approx([one[0] for one in expected], abs=1e-4)


def test_free_answers_resume_too(make: Any, pictures: tuple[Path, list[ImageRef]]) -> None:
    first = make("g").generate_until(free(pictures[1]))
    again = make("g")
    assert again.generate_until(free(pictures[1])) == first
    assert again.cost["batches"] == 0


def test_what_an_answer_depends_on_is_in_its_key(make: Any, pictures: Any) -> None:
    make("x").generate_until(free(pictures[1]))
    other = make("x", name="other")
    other.generate_until(free(pictures[1]))
    longer = make("x")
    longer.generate_until(free(pictures[1], max_gen_toks=6))
    newer = make("x", versions={"t": 2})
    newer.generate_until(free(pictures[1]))
    same = make("x", versions={"t": 2})
    same.generate_until(free(pictures[1]))
    assert [lm.cost["batches"] for lm in (other, longer, newer, same)] == [1, 1, 1, 0]


def test_fingerprint_names_weights_code_and_evidence(vlm: Vlm, tmp_path: Path) -> None:
    (tmp_path / "evidence").write_text("x")
    found = [fingerprint("a", vlm), fingerprint("b", vlm), fingerprint("a", vlm, str(tmp_path / "evidence"))]
    assert len(set(found)) == 3 and fingerprint("a", vlm) == found[0]


def test_sampling_is_refused(make: Any, pictures: tuple[Path, list[ImageRef]]) -> None:
    with pytest.raises(VistuneError, match="task t asks for sampling"):
        make().generate_until(free(pictures[1][:1], do_sample=True))


def test_chats_of_several_turns_reach_the_template(make: Any, pictures: tuple[Path, list[ImageRef]]) -> None:
    lm = make()
    one = {"visual": [asdict(pictures[1][0])]}
    turns = [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": "Yes."}]
    chat = lm.apply_chat_template([*turns, {"role": "user", "content": "Why?"}])
    contexts = [lm.apply_chat_template([{"role": "user", "content": "Why?"}]), chat]
    assert contexts[0] == "Why?"
    found = lm.loglikelihood([Instance("loglikelihood", {}, (c, "a", one), 0, ("t", 0, 1)) for c in contexts])
    assert found[0][0] != found[1][0]
    with pytest.raises(VistuneError, match="has the turns user, assistant"):
        lm.apply_chat_template(turns)


def test_pictures_of_other_tasks_are_taken(make: Any, pictures: tuple[Path, list[ImageRef]]) -> None:
    root, (ref, *_) = pictures
    visuals = [asdict(ref), Image.open(root / ref.path), root / ref.path, ref.path]
    asked = [("<image>\nWhy?", "a", {"visual": [visual]}) for visual in visuals]
    lm = make()
    found = lm.loglikelihood([Instance("loglikelihood", {}, parts, 0, ("t", 0, 1)) for parts in asked])
    assert {one[0] for one in found} == {found[0][0]}
    with pytest.raises(VistuneError, match="task t gives int as its visual"):
        lm.loglikelihood([Instance("loglikelihood", {}, ("q", "a", {"visual": [3]}), 0, ("t", 0, 1))])


def test_text_alone(make: Any) -> None:
    lm = make()
    assert lm.loglikelihood([Instance("loglikelihood", {}, ("text only", " a"), 0, ("t", 0, 1))])[0].tokens == 2
    with pytest.raises(VistuneError, match="task wiki asks for the perplexity of text with images"):
        lm.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, ("text", {"visual": [1]}), 0, ("wiki", 0, 1))])


def test_running_text_is_scored_once_per_token(make: Any, vlm: Vlm) -> None:
    import torch

    text = "It was a dark and stormy night. " * 80  # longer than the model's limit
    lm = make()
    total = lm.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, (text,), 0, ("wiki", 0, 1))])[0]
    windows = lm.engine.windows(text)
    ids = vlm.reader.tokenizer.encode(text, add_special_tokens=False)
    assert len(windows) > 1 and [t for w in windows for t in w.window[1]] == ids
    expected = 0.0
    for window in windows:
        given, scored = window.window
        with torch.no_grad():
            logits = vlm.model(input_ids=torch.tensor([[*given, *scored]])).logits[0].log_softmax(-1)
        rows = logits[len(given) - 1 : -1]
        expected += float(rows.gather(1, torch.tensor(scored)[:, None]).sum())
    assert total == pytest.approx(expected, rel=1e-5)


def test_log_likelihood_is_the_pair_lm_eval_expects() -> None:
    one = LogLikelihood(-3.0, True, 2)
    total, greedy = one
    assert (total, greedy, one.mean) == (-3.0, True, -1.5)


def test_lm_eval_opens_it_by_name(model_folders: Path, pictures: tuple[Path, list[ImageRef]], tmp_path: Path) -> None:
    from lm_eval.api.registry import get_model

    arguments = f"pretrained={model_folders / 'base'},dtype=float32,images={pictures[0]},log={tmp_path / 'log.jsonl'}"
    lm = get_model("vistune").create_from_arg_string(arguments, {"batch_size": 1})
    assert len(lm.generate_until(free(pictures[1]))) == len(pictures[1])
    assert (tmp_path / "log.jsonl").stat().st_size > 0
