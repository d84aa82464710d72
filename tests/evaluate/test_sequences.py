"""Models known by their processor alone, whose prefixes may not be shared."""

import json
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance

from vistune.evaluate import sequences
from vistune.evaluate.engine import Engine
from vistune.evaluate.images import Pictures
from vistune.evaluate.lm import VistuneLM
from vistune.models.vlm import Vlm, build, load

QUESTIONS = [("Is there a cat?", ("yes", "no")), ("What is on the left?", ("a cat", "dog", "fire engine"))]


@pytest.fixture
def vlm() -> Vlm:
    return build("auto", seed=3)


CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% for piece in message.content %}"
    "{% if piece.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ piece.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def adapter(vlm: Vlm, root: Path) -> VistuneLM:
    given = Pictures(root)
    return VistuneLM(Engine(vlm, given, "model", 600), given)


def requests(pictures: Any) -> tuple[list[Instance], list[Instance]]:
    shown = [[], pictures[1][:1], pictures[1][:2]]
    visual = [{"visual": [asdict(image) for image in images]} for images in shown]
    ranked = [
        Instance("loglikelihood", {}, (q, c, images), 0, ("t", 0, 1))
        for images in visual
        for q, cs in QUESTIONS
        for c in cs
    ]
    free = [
        Instance("generate_until", {}, (q, {"max_gen_toks": 4 + n}, images), 0, ("t", 0, 1))
        for images in visual
        for n, (q, _) in enumerate(QUESTIONS)
    ]
    return ranked, free


def test_positions_on_three_axes_are_found(pictures: Any, tmp_path: Path) -> None:
    build("qwen2_vl", seed=3).save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config.pop("vistune")  # as its authors publish it
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "chat_template.jinja").write_text(CHAT)
    lm = adapter(load(tmp_path), pictures[0])
    assert isinstance(lm.engine, Engine) and lm.engine.reader.family.name == "auto"
    assert lm.engine.sharing == "pictures", lm.engine.note
    ranked, free = requests(pictures)
    scores, texts = [one[0] for one in lm.loglikelihood(ranked)], lm.generate_until(free)
    lm.engine.sharing = "nothing"
    assert scores == pytest.approx([one[0] for one in lm.loglikelihood(ranked)], abs=1e-4)
    assert texts == lm.generate_until(free)


class Prefixed(torch.nn.Module):
    """A model whose tokens see what stands behind them, in a prefix."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.inner = model

    def forward(self, hidden: Any, *args: Any, **kwargs: Any) -> Any:
        if hidden.shape[1] > 1:
            hidden = hidden + 0.5 * hidden.mean(1, keepdim=True)
        return self.inner(hidden, *args, **kwargs)


def test_a_model_that_looks_ahead_runs_on_whole_sequences(vlm: Vlm, pictures: Any) -> None:
    layers = vlm.model.model.language_model.layers
    layers[0] = Prefixed(layers[0])
    engine = adapter(vlm, pictures[0]).engine
    assert engine.sharing == "nothing" and "differ by" in engine.note


def test_a_model_that_refuses_masks_runs_on_whole_sequences(vlm: Vlm, pictures: Any, monkeypatch: Any) -> None:
    forward = type(vlm.model).forward

    @wraps(forward)
    def strict(self: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("attention_mask") is not None and kwargs["attention_mask"].ndim == 4:
            raise ValueError("masks of two dimensions only")
        return forward(self, *args, **kwargs)

    expected = adapter(vlm, pictures[0])
    assert expected.engine.sharing == "pictures"
    ranked, free = requests(pictures)
    scores, texts = expected.loglikelihood(ranked), expected.generate_until(free)
    monkeypatch.setattr(type(vlm.model), "forward", strict)
    lm = adapter(vlm, pictures[0])
    assert (lm.engine.sharing, lm.engine.note) == ("nothing", "ValueError: masks of two dimensions only")
    found = lm.loglikelihood(ranked)
    assert [one[0] for one in found] == pytest.approx([one[0] for one in scores], abs=1e-4)
    assert [one.tokens for one in found] == [one.tokens for one in scores]
    assert lm.generate_until(free) == texts


def test_a_model_that_does_not_run_at_all_says_why(vlm: Vlm, pictures: Any, monkeypatch: Any) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ValueError("no forward pass")

    monkeypatch.setattr(type(vlm.model), "forward", broken)
    with pytest.raises(ValueError, match="no forward pass"):
        adapter(vlm, pictures[0])


def test_whole_sequences_end_answers_as_shared_ones_do(vlm: Vlm, pictures: Any, monkeypatch: Any) -> None:
    shared = adapter(vlm, pictures[0])
    monkeypatch.setattr(sequences, "differs", lambda engine: "asked for")
    whole = adapter(vlm, pictures[0])
    assert whole.engine.sharing == "nothing"
    text = [Instance("loglikelihood_rolling", {}, ("Once upon a time.",), 0, ("wiki", 0, 1))]
    assert whole.loglikelihood_rolling(text) == pytest.approx(shared.loglikelihood_rolling(text), abs=1e-4)
    visual = {"visual": [asdict(pictures[1][0])]}
    answer = shared.generate_until(
        [Instance("generate_until", {}, ("Why?", {"max_gen_toks": 6}, visual), 0, ("t", 0, 1))]
    )[0]
    for arguments in ({"until": [answer[2]]}, {"until": ["never"]}, {}):
        asked = [Instance("generate_until", {}, ("Why?", {"max_gen_toks": 6, **arguments}, visual), 0, ("t", 0, 1))]
        assert whole.generate_until(asked) == shared.generate_until(asked)
