"""What every family learns at its `tiny` preset: the stages of its recipe change their roles, and 32 samples are
learned by heart."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image, ImageDraw

from vistune.models import FAMILIES
from vistune.models.families.base import Stage
from vistune.models.labels import IGNORE
from vistune.models.vlm import Vlm, build, load, load_model
from vistune.records import Message

NAMES = [n for n, module in FAMILIES.items() if importlib.util.find_spec(module)]
COLOURS = {"red": (220, 30, 30), "green": (30, 190, 50), "blue": (40, 60, 240), "black": (0, 0, 0)}
SHAPES = ("disc", "bar")
RATE = 4e-3  # of every role that a stage trains: published rates are for published weights


def stages(vlm: Vlm) -> tuple[Stage, ...]:
    """Of the recipe; the stages of the demo's family stand in params.yaml."""
    return vlm.preset.stages or (
        Stage(name="align", rates={"connector": None}, data=""),
        Stage(name="instruct", rates={"connector": None, "language": None, "head": None}, data=""),
    )


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


@pytest.mark.parametrize("name", NAMES)
def test_stages_change_their_roles_and_no_other(name: str) -> None:
    """One step of each stage."""
    model, few = build(name), samples()[:2]
    for stage in stages(model):
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
