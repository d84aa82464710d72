"""Shared prefixes give what each question gives by itself, whatever the family, the order and the batch."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance
from PIL import Image

from vistune.errors import VistuneError
from vistune.evaluate import decoding, engine
from vistune.evaluate.images import Pictures, shown
from vistune.evaluate.lm import VistuneLM
from vistune.models import FAMILIES, load_model
from vistune.models.evidence import SIDE, Evidence
from vistune.models.labels import IGNORE
from vistune.models.vlm import Vlm, build
from vistune.records import ImageRef, Message
from vistune.store import open_image

QUESTIONS = [
    ("Is there a cat?", ("yes", "no")),
    ("What is on the left?", ("a cat", "dog", "fire engine")),
    ("Is there a dog here?", ("yes", "no", "yes and no")),
]

FAST = ("small", "llava", "qwen2_vl", "cogagent", "moai", "auto")
"""Scattered features, transformers' own, positions on three axes, experts with cross-attention, a mixer with evidence,
and a model known by its processor alone."""


@pytest.fixture(
    scope="module", params=[*FAST, *(pytest.param(f, marks=pytest.mark.slow) for f in FAMILIES if f not in FAST)]
)
def vlm(request: pytest.FixtureRequest) -> Vlm:
    found = build(request.param, seed=3)
    for name, parameter in found.model.named_parameters():
        if ".mixer." in name or ".compressor." in name:
            parameter.data *= 8  # as they are drawn, nothing of what they do would be seen
    return found


@pytest.fixture
def evidence(vlm: Vlm, pictures: Any) -> dict[str, Evidence]:
    if vlm.family.evidence is None:
        return {}
    maps = [np.zeros((SIDE, SIDE), np.uint8) for _ in pictures[1]]
    for n, drawn in enumerate(maps):
        drawn[50 * n :, 100:] = n + 1
    return {
        ref.sha256: Evidence(f"{n} cats", drawn) for n, (ref, drawn) in enumerate(zip(pictures[1], maps, strict=True))
    }


@pytest.fixture
def make(vlm: Vlm, pictures: Any, evidence: dict[str, Evidence]) -> Iterator[Any]:
    def lm(batch_tokens: int = 2048) -> VistuneLM:
        given = Pictures(pictures[0])
        return VistuneLM(engine.Engine(vlm, given, "model", batch_tokens, evidence), given)

    yield lm


def mixed(images: list[ImageRef]) -> list[list[ImageRef]]:
    """No image, one, another, two, and the same two the other way round."""
    return [[], images[:1], images[1:2], images[:2], [images[1], images[0]]]


def ranking(shown: list[list[ImageRef]]) -> list[Instance]:
    return [
        Instance("loglikelihood", {}, (question, choice, {"visual": [asdict(i) for i in images]}), n, ("t", 0, 1))
        for images in shown
        for question, choices in QUESTIONS
        for n, choice in enumerate(choices)
    ]


def free(shown: list[list[ImageRef]]) -> list[Instance]:
    """Answers of different lengths."""
    return [
        Instance(
            "generate_until", {}, (q, {"max_gen_toks": 3 + n}, {"visual": [asdict(i) for i in im]}), 0, ("t", 0, 1)
        )
        for im in shown
        for n, (q, _) in enumerate(QUESTIONS)
    ]


def asides(evidence: dict[str, Evidence], images: list[ImageRef]) -> list[list[Evidence]]:
    return [[evidence[image.sha256] for image in images]] if evidence else []


def alone(vlm: Vlm, root: Path, images: list[ImageRef], question: str, answer: str, evidence: Any) -> tuple[float, int]:
    """Log-probability of an answer by a plain forward pass of training's inputs, and its tokens."""
    talk = [Message("user", question, tuple(range(len(images)))), Message("assistant", answer)]
    opened = [[open_image(root, image) for image in images]]
    aside = asides(evidence, images)
    start = vlm.inputs([talk[:1]], opened, prompt=True, evidence=aside)["input_ids"].shape[1]
    inputs = vlm.inputs([talk], opened, evidence=aside)
    labels = inputs["labels"][0]
    with torch.no_grad():
        logprobs = vlm.model(**inputs).logits[0].float().log_softmax(-1)
    learned = [t for t in range(start, len(labels)) if labels[t] != IGNORE]
    return sum(float(logprobs[t - 1, labels[t]]) for t in learned), len(learned)


def test_scores_are_those_of_each_question_alone_in_any_order_and_batch(
    make: Any, vlm: Vlm, pictures: Any, evidence: Any
) -> None:
    root, images = pictures
    shown = mixed(images)
    requests = ranking(shown)
    expected = [alone(vlm, root, im, q, c, evidence) for im in shown for q, cs in QUESTIONS for c in cs]
    for tokens in (1, 700, 8192):
        order = sorted(range(len(requests)), key=lambda n: (n * 7) % len(requests))
        found = make(tokens).loglikelihood([requests[n] for n in order])
        for n, one in zip(order, found, strict=True):
            assert one[0] == pytest.approx(expected[n][0], abs=1e-4)
            assert one.tokens == expected[n][1]
    totals = {tuple(round(one[0], 6) for one in expected[n : n + 8]) for n in range(0, len(expected), 8)}
    assert len(totals) == len(shown), "the images count, and so does their order"


def test_free_answers_are_those_of_each_question_alone(make: Any, vlm: Vlm, pictures: Any, evidence: Any) -> None:
    root, images = pictures
    shown = mixed(images)
    expected = []
    for one in shown:
        opened = [[open_image(root, image) for image in one]]
        for n, (question, _) in enumerate(QUESTIONS):
            talk = [Message("user", question, tuple(range(len(one))))]
            expected.append(vlm.generate([talk], opened, 3 + n, asides(evidence, one))[0])
    requests = free(shown)
    for tokens in (1, 700, 8192):
        order = sorted(range(len(requests)), key=lambda n: (n * 7) % len(requests))
        found = make(tokens).generate_until([requests[n] for n in order])
        assert found == [expected[n] for n in order]


def test_what_is_shared(make: Any, vlm: Vlm, pictures: Any) -> None:
    lm = make()
    assert lm.engine.sharing == ("question" if vlm.family.name == "moai" else "pictures"), lm.engine.note
    requests = ranking([pictures[1][:1]])
    lm.loglikelihood(requests)
    prompt = vlm.reader.read([Message("user", QUESTIONS[0][0], (0,))], [(48, 40)], prompt=True).length
    most = prompt * (len(QUESTIONS) if vlm.family.name == "moai" else 2) + 200
    assert lm.cost["tokens"] < most, "the picture is not computed for every answer"


def test_evidence_counts(vlm: Vlm, pictures: Any, make: Any, evidence: Any) -> None:
    if not evidence:
        pytest.skip("the family takes none")
    given = Pictures(pictures[0])
    without = VistuneLM(engine.Engine(vlm, given, "model"), given)
    requests = ranking([pictures[1][1:2]])
    pairs = zip(make().loglikelihood(requests), without.loglikelihood(requests), strict=True)
    assert all(abs(a[0] - b[0]) > 1e-3 for a, b in pairs)


@pytest.fixture(scope="module")
def llava() -> Vlm:
    return build("llava", seed=3)


@pytest.fixture
def answering(llava: Vlm, pictures: Any) -> VistuneLM:
    given = Pictures(pictures[0])
    return VistuneLM(engine.Engine(llava, given, "model"), given)


def test_many_questions_go_through_one_prefix_in_pieces(
    answering: VistuneLM, pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = {"visual": [asdict(pictures[1][0])]}
    asked = [(f"Is there a thing of kind {n}?", {"max_gen_toks": 2 + n % 3}, shown) for n in range(20)]
    requests = [Instance("generate_until", {}, parts, 0, ("t", 0, 1)) for parts in asked]
    expected = answering.generate_until(requests)
    monkeypatch.setattr(decoding, "BRANCH_TOKENS", 60)
    monkeypatch.setattr(engine, "SHORT_PREFIX", 0)
    assert answering.generate_until(requests) == expected
    assert len({answer[:1] for answer in expected}) > 1 or len(set(expected)) > 1


def test_a_grey_picture_is_one_for_all_questions(llava: Vlm, pictures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    root, (one, other) = pictures[0], pictures[1][:2]
    images, given = (one, replace(other, width=one.width + 16)), Pictures(root)
    lm = VistuneLM(engine.Engine(llava, given, "model"), given, shown=shown("blank", {}, 0))
    requests = ranking([[image] for image in images])
    plans: list[Any] = []
    plan = lm.engine.plan
    lm.engine.plan = lambda questions: plans.append(plan(questions)) or plans[-1]  # type: ignore[method-assign]
    found = lm.loglikelihood(requests)
    visits = [visit for batch in plans[0] for visit in batch]
    assert [len(visit.asked) for visit in visits] == [len(QUESTIONS)], "one prefix, and each question once"
    grey = Image.new("RGB", (336, 336), (127, 127, 127))
    talk = [Message("user", QUESTIONS[0][0], (0,)), Message("assistant", "yes")]
    inputs = llava.inputs([talk], [[grey]])
    with torch.no_grad():
        logprobs = llava.model(**inputs).logits[0].float().log_softmax(-1)
    learned = [t for t, label in enumerate(inputs["labels"][0]) if label != IGNORE]
    expected = sum(float(logprobs[t - 1, inputs["labels"][0][t]]) for t in learned)
    assert found[0][0] == pytest.approx(expected, abs=1e-4)

    monkeypatch.setattr(engine, "SHORT_PREFIX", 0)
    monkeypatch.setattr(engine, "AGAIN", 0)
    monkeypatch.setattr(engine, "BRANCH_TOKENS", 20)
    again = lm.loglikelihood(requests)
    assert len([visit for batch in plans[1] for visit in batch]) > 1, "several processes have a share of them"
    assert [one[0] for one in again] == pytest.approx([one[0] for one in found], abs=1e-4)


def test_an_answer_ends_at_its_own_stop_or_end_of_turn(answering: VistuneLM, pictures: Any, llava: Vlm) -> None:
    shown = {"visual": [asdict(pictures[1][0])]}

    def ask(**arguments: Any) -> str:
        given = {"max_gen_toks": 6, **arguments}
        return answering.generate_until([Instance("generate_until", {}, ("Why?", given, shown), 0, ("t", 0, 1))])[0]

    whole = ask()
    middle = whole[2]
    both = [("Why?", {"max_gen_toks": 6, "until": [middle]}, shown), ("Why?", {"max_gen_toks": 6}, shown)]
    found = answering.generate_until([Instance("generate_until", {}, parts, 0, ("t", 0, 1)) for parts in both])
    assert found == [whole[: whole.index(middle)].strip(), whole]
    steps: list[int] = []
    real = decoding._step
    decoding._step = lambda *args: steps.append(1) or real(*args)  # type: ignore[assignment]
    try:
        assert ask(until=whole[0]) == "" and not steps, "nothing is computed behind a stop string"
        answering.engine.trunk.ends = frozenset(llava.reader.tokenizer.encode(middle, add_special_tokens=False))  # type: ignore[attr-defined]
        assert ask() == whole[: whole.index(middle)].strip()
    finally:
        decoding._step = real


def test_a_question_longer_than_the_model_takes_is_named(answering: VistuneLM, llava: Vlm) -> None:
    long = "word " * llava.preset.limit
    with pytest.raises(VistuneError, match=rf"the limit is {llava.preset.limit} \(sample t: 'word word"):
        answering.loglikelihood([Instance("loglikelihood", {}, (long, "a"), 0, ("t", 0, 1))])


def test_the_head_is_exact_when_the_model_is_not(tmp_path: Path, model_folders: Path) -> None:
    build("llava").save(tmp_path)
    for folder in (tmp_path, model_folders / "base"):
        rounded = load_model(folder, "bfloat16").model
        assert rounded.get_input_embeddings().weight.dtype == torch.bfloat16
        out = rounded(input_ids=torch.tensor([[5, 6, 7]])).logits
        assert out.dtype == torch.float32
        # Logits that went through bfloat16 would all be representable in it.
        assert (out != out.bfloat16().float()).float().mean() > 0.5
