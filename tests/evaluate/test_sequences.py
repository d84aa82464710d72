"""The lm-eval model of families that the packed form does not fit."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance

from vistune.errors import VistuneError
from vistune.evaluate import engine
from vistune.evaluate.responses import ResponseLog
from vistune.evaluate.sequences import SequenceLM
from vistune.models.vlm import Vlm, build
from vistune.records import ImageRef, Message
from vistune.store import open_image

QUESTIONS = [("Is there a cat?", ("yes", "no")), ("What is on the left?", ("a cat", "dog", "fire engine"))]


@pytest.fixture(scope="module", params=["llava", "mplug_owl"])
def vlm(request: pytest.FixtureRequest) -> Vlm:
    """One of transformers' own, and one of ours whose language model has experts."""
    return build(request.param, seed=3)


@pytest.fixture
def make(vlm: Vlm, pictures: tuple[Path, list[ImageRef]], tmp_path: Path) -> Iterator[Callable[..., SequenceLM]]:
    logs: list[ResponseLog] = []

    def lm(log: str = "log", **more: Any) -> SequenceLM:
        for old in logs:
            old.__exit__()
        logs.append(ResponseLog(tmp_path / f"{log}.jsonl").__enter__())
        return SequenceLM(vlm, pictures[0], logs[-1], "model", **more)

    yield lm
    for log in logs:
        log.__exit__()


def ranking(shown: list[list[ImageRef]]) -> list[Instance]:
    return [
        Instance("loglikelihood", {}, (question, choice, {"visual": [asdict(i) for i in images]}), n, ("t", 0, 1))
        for images in shown
        for question, choices in QUESTIONS
        for n, choice in enumerate(choices)
    ]


def mixed(images: list[ImageRef]) -> list[list[ImageRef]]:
    """No image, one, two, and the same two the other way round."""
    return [[], images[:1], images[:2], [images[1], images[0]]]


def test_scores_do_not_depend_on_order_batches_or_padding(make: Any, pictures: Any) -> None:
    requests = ranking(mixed(pictures[1]))
    alone = make("alone")
    reference = [alone.loglikelihood([request])[0] for request in requests]
    for tokens in (1, 900, 8192):
        order = sorted(range(len(requests)), key=lambda n: (n * 7) % len(requests))
        found = make(f"b{tokens}", batch_tokens=tokens).loglikelihood([requests[n] for n in order])
        for n, one in zip(order, found, strict=True):
            assert one[0] == pytest.approx(reference[n][0], abs=1e-4)
            assert (one[1], one.tokens) == (reference[n][1], reference[n].tokens)
    totals = {tuple(round(one[0], 6) for one in reference[n : n + 5]) for n in range(0, 20, 5)}
    assert len(totals) == 4, "the images count, and so does their order"


def test_a_score_is_the_loss_of_training(make: Any, vlm: Vlm, pictures: Any) -> None:
    root, (image, *_) = pictures
    question, choices = QUESTIONS[1]
    for choice, one in zip(choices, make().loglikelihood(ranking([[image]])[2:]), strict=True):
        talk = [Message("user", question, (0,)), Message("assistant", choice)]
        loss = vlm.model(**vlm.inputs([talk], [[open_image(root, image)]])).loss.item()
        assert one.mean == pytest.approx(-loss, abs=1e-5)


def test_free_answers_are_those_of_the_model(make: Any, vlm: Vlm, pictures: Any) -> None:
    root, images = pictures
    shown = mixed(images)
    requests = [
        Instance(
            "generate_until", {}, ("Why?", {"max_gen_toks": 5}, {"visual": [asdict(i) for i in one]}), 0, ("t", 0, 1)
        )
        for one in shown
    ]
    found = make().generate_until(requests)
    for one, said in zip(shown, found, strict=True):
        question = [Message("user", "Why?", tuple(range(len(one))))]
        assert said == vlm.generate([question], [[open_image(root, image) for image in one]], 5)[0]


def test_a_finished_batch_is_not_computed_again(make: Any, pictures: Any) -> None:
    requests = ranking(mixed(pictures[1]))
    first = make("w").loglikelihood(requests)
    again = make("w")
    assert again.loglikelihood(requests) == first
    assert again.cost["batches"] == 0


def test_a_question_longer_than_the_model_takes_is_named(make: Any, vlm: Vlm) -> None:
    long = "word " * vlm.preset.limit
    with pytest.raises(VistuneError, match=rf"the limit is {vlm.preset.limit} \(sample word"):
        make().loglikelihood([Instance("loglikelihood", {}, (long, "a"), 0, ("t", 0, 1))])


def test_what_a_folder_holds_decides_how_it_is_served(tmp_path: Path, model_folders: Path) -> None:
    build("llava").save(tmp_path)
    assert isinstance(engine.load(tmp_path, "float32"), Vlm)
    assert hasattr(engine.load(model_folders / "base", "float32"), "chat")
