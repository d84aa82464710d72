"""What every family promises, held over the table of families at their `tiny` presets."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image, ImageDraw

from vistune.errors import VistuneError
from vistune.models import FAMILIES
from vistune.models.families.base import Composed, Stage
from vistune.models.flops import Shape, flops
from vistune.models.labels import IGNORE
from vistune.models.vlm import Vlm, build, load, load_model
from vistune.records import Message

NAMES = [n for n, module in FAMILIES.items() if importlib.util.find_spec(module)]
COLOURS = {"red": (220, 30, 30), "green": (30, 190, 50), "blue": (40, 60, 240), "black": (0, 0, 0)}
SHAPES = ("disc", "bar")
RATE = 4e-3  # of every role that a stage trains: published rates are for published weights
LOADS = ("llava", "cogagent", "moai", "auto")
"""Families whose adapters are read again: of transformers' own class, composed with roles of its own, with adapters of
its own, and any other model; nothing in reading them depends on the family."""

SIZES = ((1, 1), (3000, 7), (7, 3000), (800, 600), (33, 47), (336, 336), (1000, 999))


def picture(width: int, height: int) -> Image.Image:
    return Image.radial_gradient("L").resize((width, height)).convert("RGB")


SHOWN = [picture(80, 60), picture(30, 90)]
TALKS = [
    [Message("user", "What is it?", (0,)), Message("assistant", "A dog.")],
    [Message("user", "Hello"), Message("assistant", "Hi there")],
    [Message("user", "Compare", (0, 1)), Message("assistant", "same")],
]
IMAGES: list[list[Image.Image]] = [SHOWN[:1], [], SHOWN]
QUESTIONS = [talk[:-1] for talk in TALKS]


@pytest.fixture(scope="module", params=NAMES)
def vlm(request: pytest.FixtureRequest) -> Iterator[Vlm]:
    """Not to be changed by a test."""
    yield build(request.param)


def fresh(vlm: Vlm) -> Vlm:
    """A copy to be changed."""
    return Vlm(deepcopy(vlm.model), vlm.reader)


def stages(vlm: Vlm) -> tuple[Stage, ...]:
    """Of the recipe; the stages of the demo's family stand in params.yaml."""
    return vlm.preset.stages or (
        Stage(name="align", rates={"connector": None}, data=""),
        Stage(name="instruct", rates={"connector": None, "language": None, "head": None}, data=""),
    )


def answers(vlm: Vlm, batch: dict[str, Any]) -> list[torch.Tensor]:
    """Logits of each row's real tokens."""
    with torch.no_grad():
        logits = vlm.model(**batch).logits
    return [row[mask.bool()] for row, mask in zip(logits, batch["attention_mask"], strict=True)]


def test_no_family_is_missing() -> None:
    assert list(FAMILIES) == NAMES, f"no module yet for {sorted(set(FAMILIES) - set(NAMES))}"


def test_roles_partition_the_parameters(vlm: Vlm) -> None:
    owned = [name for names in vlm.roles().values() for name in names]
    assert sorted(owned) == sorted(name for name, _ in vlm.model.named_parameters())
    assert {"vision", "connector", "language", "head"} <= {role for role, names in vlm.roles().items() if names}
    for stage in vlm.preset.stages:
        assert {*stage.rates, *stage.lora} <= set(vlm.family.roles)


def test_length_needs_no_pixels(vlm: Vlm) -> None:
    lengths = {}
    for width, height in SIZES:
        try:
            lengths[width, height] = vlm.reader.length(TALKS[0], [(width, height)])
        except VistuneError as error:
            assert f"{width}x{height}" in str(error) or "tokens, the limit is" in str(error), "it says its numbers"
    seen = set()
    for size, length in lengths.items():
        if (shape := Shape.of(vlm.reader.plan(*size))) in seen:
            assert length in {lengths[other] for other in lengths if other != size}
            continue
        seen.add(shape)
        batch = vlm.inputs(TALKS[:1], [[picture(*size)]])
        assert batch["input_ids"].shape == (1, length)
        assert len(answers(vlm, batch)[0]) == length, "the model takes as many visual tokens as there are placeholders"
    assert len(lengths) >= 3


def test_batches_and_padding_change_nothing(vlm: Vlm) -> None:
    alone = [answers(vlm, vlm.inputs([talk], [shown]))[0] for talk, shown in zip(TALKS, IMAGES, strict=True)]
    for side in ("right", "left"):
        together = answers(vlm, vlm.inputs(TALKS, IMAGES, side=side))
        for one, other in zip(alone, together, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_generation_does_not_depend_on_the_batch(vlm: Vlm) -> None:
    together = vlm.generate(QUESTIONS, IMAGES, 4)
    assert together == [vlm.generate([q], [shown], 4)[0] for q, shown in zip(QUESTIONS, IMAGES, strict=True)]


def test_saved_models_are_equal_bit_for_bit(vlm: Vlm, tmp_path: Path) -> None:
    vlm.save(tmp_path)
    again = load(tmp_path)
    state, read = vlm.model.state_dict(), again.model.state_dict()
    assert state.keys() == read.keys()
    assert all(torch.equal(tensor, read[key]) for key, tensor in state.items())
    assert list(tmp_path.glob("*.safetensors"))
    batch = vlm.inputs(TALKS, IMAGES)
    assert all(map(torch.equal, answers(vlm, batch), answers(again, again.inputs(TALKS, IMAGES))))
    if not isinstance(vlm.family, Composed):
        from transformers import AutoModelForImageTextToText

        theirs = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
        assert type(theirs).__module__.startswith("transformers.")
        assert all(map(torch.equal, answers(vlm, batch), answers(Vlm(theirs, vlm.reader), batch)))


def test_checkpointing_gives_the_same_gradients(vlm: Vlm) -> None:
    batch = vlm.inputs(TALKS, IMAGES)
    model = fresh(vlm).model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable()
        model.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        model(**batch).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-6, msg=name)


def test_lora_on_any_role(vlm: Vlm, tmp_path: Path) -> None:
    from vistune.models import lora

    batch = vlm.inputs(TALKS, IMAGES)
    before = answers(vlm, batch)
    able = [role for role in vlm.family.roles if lora.linear_layers(vlm, role)]
    for role in set(vlm.family.roles) - set(able):
        with pytest.raises(VistuneError, match="no linear layers"):
            lora.attach(vlm, {role: 2})
    amended = fresh(vlm)
    ranks = {role: 2 + n for n, role in enumerate(able)}
    names = lora.attach(amended, ranks)
    assert all(map(torch.equal, before, answers(amended, batch))), "adapters start as no change"
    trainable = {n for n, p in amended.model.named_parameters() if p.requires_grad}
    for role in able:
        assert any(".lora_" in name for name in amended.roles()[role] if name in trainable)
    assert all(".lora_" in name for name in trainable if vlm.family.role(name) in able)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in amended.model.named_parameters():
        if ".lora_B." in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05
    changed = answers(amended, batch)
    lora.save_adapters(amended, tmp_path)
    if vlm.family.name in LOADS:
        other = fresh(vlm)
        assert sorted(lora.load_adapters(other, tmp_path)) == sorted(names)
        assert all(map(torch.equal, changed, answers(other, batch)))
    lora.merge(amended)
    assert list(amended.model.state_dict()) == list(vlm.model.state_dict())
    for one, two in zip(changed, answers(amended, batch), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-4)


def test_images_and_their_marks_must_match(vlm: Vlm) -> None:
    with pytest.raises(VistuneError, match=r"show 2 images, 1 are given \(sample s7\)"):
        vlm.reader.read(TALKS[2], [(80, 60)], sample="s7")
    with pytest.raises(VistuneError, match=r"show 1 images, 0 are given \(sample s8\)"):
        vlm.reader.length(TALKS[0], [], sample="s8")


def test_too_long_samples_are_refused(vlm: Vlm) -> None:
    long = [Message("user", "What is it?", (0,)), Message("assistant", "word " * vlm.preset.limit)]
    with pytest.raises(VistuneError, match=rf"\d+ tokens, the limit is {vlm.preset.limit} \(sample s9\)"):
        vlm.reader.read(long, [(80, 60)], sample="s9")


def test_flops_are_those_that_torch_counts(vlm: Vlm) -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    routed = isinstance(vlm.family, Composed) and vlm.family.types is not None
    for talk, shown in [
        (TALKS[2], IMAGES[2]),
        *([(TALKS[1], IMAGES[1])] if routed else []),
    ]:  # else text costs the same
        batch = vlm.inputs([talk], [shown])
        reading = vlm.reader.read(talk, [image.size for image in shown])
        # torch has no formula for the CPU's fused attention, but for the two products that it is
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            vlm.model(**batch)
        assert flops(vlm, [reading]) == pytest.approx(counter.get_total_flops(), rel=0.005)


def test_stages_change_their_roles_and_no_other(vlm: Vlm) -> None:
    """One step of each stage."""
    model = fresh(vlm)
    few = samples()[:2]
    for stage in stages(vlm):
        trained = staged(model, stage)
        before = {name: tensor.clone() for name, tensor in model.model.state_dict().items()}
        with amended(trained, stage):
            fit(trained, in_batches(trained, few, 2), 1)
        check_changes(model, stage, before)


def test_a_saved_model_reads_as_it_was_trained_last(tmp_path: Path) -> None:
    """A stage with views or a template of its own: the model on disk is asked in the same way."""
    vlm = build("llava_uhd")
    trained = staged(vlm, stages(vlm)[-1])
    assert trained.preset != vlm.preset
    trained.save(tmp_path)
    loaded = load(tmp_path)
    assert loaded.preset == trained.preset
    shown = samples()[:2]
    ours, theirs = (of.inputs([s.messages for s in shown], [[s.picture] for s in shown]) for of in (trained, loaded))
    assert torch.equal(ours["input_ids"], theirs["input_ids"])


class Sample(NamedTuple):
    question: str
    answer: str
    choices: tuple[str, ...]
    picture: Image.Image

    @property
    def messages(self) -> list[Message]:
        return [Message("user", self.question, (0,)), Message("assistant", self.answer)]


def samples() -> list[Sample]:
    """Two questions about each of sixteen pictures: every colour and shape twice, on white and on grey."""
    made = []
    for colour, rgb in COLOURS.items():
        for shape in SHAPES:
            for paper in ((255, 255, 255), (150, 150, 150)):
                picture = Image.new("RGB", (56, 56), paper)
                draw = ImageDraw.Draw(picture)
                if shape == "disc":
                    draw.ellipse((6, 6, 50, 50), fill=rgb)
                else:
                    draw.rectangle((0, 20, 56, 36), fill=rgb)
                made.append(Sample("Colour?", colour, tuple(COLOURS), picture))
                made.append(Sample("Shape?", shape, SHAPES, picture))
    return made


def staged(vlm: Vlm, stage: Stage) -> Vlm:
    """The model as a stage trains it: its template, views and limit, and only its roles trainable."""
    for name, parameter in vlm.model.named_parameters():
        parameter.requires_grad_(vlm.family.role(name) in stage.rates and vlm.family.role(name) not in stage.lora)
    return Vlm(vlm.model, vlm.reader.at(stage))


def fit(vlm: Vlm, batches: Sequence[dict[str, Any]], steps: int, rate: float = RATE) -> int:
    """Trains what is trainable on batches in turn, until the model is sure of every learned token; gives the steps."""
    learned = [p for p in vlm.model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learned, lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
    for step in range(steps):
        if step and step % 20 == 0 and all(sure(vlm, batch) for batch in batches):
            return step
        vlm.model.train()
        vlm.model(**batches[step % len(batches)]).loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
        optimiser.zero_grad()
    return steps


@torch.no_grad()
def sure(vlm: Vlm, batch: dict[str, Any]) -> bool:
    wanted = batch["labels"][:, 1:]
    chances = vlm.model.eval()(**batch).logits[:, :-1].softmax(-1)
    chance = chances.gather(-1, wanted.clamp(min=0)[..., None])[..., 0]
    return bool((chance > 0.8)[wanted != IGNORE].all())


def in_batches(vlm: Vlm, shown: Sequence[Sample], size: int = 8) -> list[dict[str, Any]]:
    """Samples that follow one another go into different batches."""
    dealt = [shown[n :: len(shown) // size] for n in range(len(shown) // size)]
    return [vlm.inputs([s.messages for s in part], [[s.picture] for s in part]) for part in dealt]


class amended:
    """A stage's LoRA adapters, merged in the end."""

    def __init__(self, vlm: Vlm, stage: Stage) -> None:
        self.vlm, self.ranks = vlm, stage.lora

    def __enter__(self) -> None:
        if self.ranks:
            from vistune.models import lora

            lora.attach(self.vlm, self.ranks)

    def __exit__(self, *_: object) -> None:
        if self.ranks:
            from vistune.models import lora

            lora.merge(self.vlm)


def check_changes(vlm: Vlm, stage: Stage, before: dict[str, torch.Tensor]) -> None:
    state = vlm.model.state_dict()
    assert state.keys() == before.keys()
    moved = {name for name, tensor in state.items() if not torch.equal(tensor, before[name])}
    named = {vlm.family.role(n) for n, _ in vlm.model.named_parameters() if n in moved}
    assert named == {*stage.rates, *stage.lora}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_tiny_model_learns_and_is_evaluated(name: str, tmp_path: Path) -> None:
    """Alignment, then instructions on 32 samples: generation says every answer, lm-eval scores 100 %, from disk."""
    vlm, shown = build(name), samples()
    *earlier, last = stages(vlm)
    frozen = not any("language" in {*stage.rates} - {*stage.lora} for stage in stages(vlm))
    if frozen:
        read_words(vlm, shown)
    for stage in (*earlier, last):
        trained = staged(vlm, stage)
        before = {key: tensor.clone() for key, tensor in vlm.model.state_dict().items()}
        alone = frozen and "connector" not in last.rates  # then alignment is all that the connector learns
        with amended(trained, stage):
            steps = fit(trained, in_batches(trained, shown), 1200 if stage is last else 400 if alone else 4)
        check_changes(vlm, stage, before)
    vlm.model.eval()
    said = trained.generate([s.messages[:1] for s in shown], [[s.picture] for s in shown], 16)
    assert said == [s.answer for s in shown], f"after {steps} steps"
    trained.save(tmp_path / "model")
    assert evaluated(tmp_path, shown) == {"ranked": 1.0, "free": 1.0}


def read_words(vlm: Vlm, shown: list[Sample]) -> None:
    """Teaches the language model alone to answer about words, where the recipe never trains it: what it has from its
    own pretraining otherwise."""
    about = {s.picture.tobytes(): [t.answer for t in shown if t.picture is s.picture] for s in shown}
    talks = [[Message("user", f"{' '.join(about[s.picture.tobytes()])}. {s.question}"), s.messages[1]] for s in shown]
    for name, parameter in vlm.model.named_parameters():
        parameter.requires_grad_(vlm.family.role(name) in ("language", "head"))
    fit(vlm, [vlm.inputs(talks, [[]] * len(talks))], 300)


def evaluated(folder: Path, shown: list[Sample]) -> dict[str, float]:
    """Accuracies that lm-eval finds for the model in `folder`, by log-likelihood and by generation."""
    from lm_eval import evaluate
    from lm_eval.api.task import ConfigurableTask

    from vistune.evaluate import engine
    from vistune.evaluate.images import Pictures
    from vistune.evaluate.lm import VistuneLM
    from vistune.evaluate.tasks import Docs, choice_results, generation_results
    from vistune.store import describe_image

    for n, sample in enumerate(shown):
        sample.picture.save(folder / f"{n}.png")
    rows = [
        {
            "question": s.question,
            "choices": list(s.choices),
            "gold": s.choices.index(s.answer),
            "answer": s.answer,
            "image": asdict(describe_image(folder, f"{n}.png")),
        }
        for n, s in enumerate(shown)
    ]
    shared = {
        "custom_dataset": lambda **_: {"test": Docs(rows, len(rows))},
        "test_split": "test",
        "num_fewshot": 0,
        "doc_to_image": ["image"],
        "doc_to_text": "question",
        "target_delimiter": "",
    }
    ranked = {"output_type": "multiple_choice", "doc_to_choice": "choices", "doc_to_target": "gold"}
    free = {"output_type": "generate_until", "doc_to_target": "answer"}
    free |= {"generation_kwargs": {"until": [], "max_gen_toks": 16, "do_sample": False}}

    def metric(name: str) -> dict[str, Any]:
        return {"metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True}]}

    pictures = Pictures(folder)
    lm = VistuneLM(engine.Engine(load_model(folder / "model", "float32"), pictures, "gallery"), pictures)
    tasks = {
        "ranked": {**shared, **ranked, **metric("acc"), "process_results": lambda *a: only("acc", choice_results(*a))},
        "free": {
            **shared,
            **free,
            **metric("exact_match"),
            "process_results": lambda *a: only("exact_match", generation_results(*a)),
        },
    }
    made = {name: ConfigurableTask(config={"task": name, **config}) for name, config in tasks.items()}
    found = evaluate(lm=lm, task_dict=made, bootstrap_iters=0, log_samples=False)
    return {"ranked": found["results"]["ranked"]["acc,none"], "free": found["results"]["free"]["exact_match,none"]}


def only(name: str, values: dict[str, Any]) -> dict[str, Any]:
    return {name: values[name]}
