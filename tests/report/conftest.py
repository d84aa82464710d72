"""A small finished pipeline: real files in the formats of the stages, with numbers that were made up."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from vistune import store
from vistune.files import write_json, write_text
from vistune.hashing import digest, file_digest, uniform
from vistune.records import ImageRef, Lineage, Region, Sample, conversation, sample_id

COLOURS = {"apple": "#d4373e", "dog": "#9b6a43", "car": "#3465a4", "tree": "#3c8d40", "star": "#f4b400"}
TASKS = ("caption", "presence", "counting", "name_region", "locate", "relative_position", "listing", "vqa")
PLANTED = "<script>alert(1)</script>"

Scene = tuple[ImageRef, list[Region]]


def scene(folder: Path, relative: str, number: int) -> Scene:
    """A picture of 1-4 coloured things on a plain ground, with their boxes."""
    width, height = 224, 168
    picture = Image.new("RGB", (width, height), ("#dfe7ee", "#f3ead9", "#e3efdf")[number % 3])
    draw = ImageDraw.Draw(picture)
    regions = [Region((0.0, 0.0, width, height), "light blue", f"{number}.ground")]
    for n in range(1 + number % 4):
        label = list(COLOURS)[(number + n) % len(COLOURS)]
        x, y = 8 + 54 * n, 4 + round(70 * uniform(number, "y", n))
        box = (float(x), float(y), float(x + 46), float(y + 46 + 30 * uniform(number, "h", n)))
        (draw.ellipse if n % 2 else draw.rectangle)(box, fill=COLOURS[label], outline="#222222")
        regions.append(Region(box, label, f"{number}.{n}"))
    path = folder / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return ImageRef(file_digest(path), width, height, "png", relative), regions


def sample(
    number: int, task: str, image: ImageRef, regions: list[Region], turns, method="adapt", language="en"
) -> Sample:
    lineage = Lineage(f"demo-train/{number}", (), (), template=f"{task}.{language}", teacher="grammar@1")
    return Sample(
        id=sample_id(task, lineage, 0),
        dataset="demo-train",
        split="validation" if number % 9 == 0 else "train",
        task=task,
        method=method,
        instruction=turns[0][0],
        input="",
        response=turns[0][1],
        messages=conversation(turns),
        images=(image,),
        lineage=lineage,
        licence="CC BY-SA 4.0",
        group=image.sha256,
        language=language,
        regions=tuple(regions),
    )


def write_release(folder: Path, images: int) -> None:
    samples = []
    for n in range(images):
        image, regions = scene(folder, f"images/{n:02d}.png", n)
        names = [r.label for r in regions[1:]]
        for k, task in enumerate(TASKS[n % 3 :: 2]):
            language = "zh" if k == 1 else "en"
            ask = f"图中有{names[0]}吗？" if language == "zh" else f"What about the {names[0]}?"
            answer = "有。" if language == "zh" else f"There is a {names[0]} here. {PLANTED}"
            samples.append(sample(n, task, image, regions, [(ask, answer)], language=language))
        kind = ("conversation", "detail", "reasoning", "negative")[n % 4]
        turns = [(f"What stands beside the {names[0]}?", "Nothing does. " * (1 + n % 3)), ("Is it red?", "It is.")]
        samples.append(sample(n, kind, image, [], turns * (1 + n % 3), "self_instruct"))
    store.write_samples(folder, samples)
    credit = {"licence": "CC BY-SA 4.0", "attribution": f"OpenMoji {PLANTED}"}
    write_json(folder / "attribution.json", {f"images/{n:02d}.png": credit for n in range(images)})
    write_json(folder / "release.json", {"samples": len(samples), "images": images, "digest": "5eed" * 16})


def write_receipt(folder: Path, stage: str, counts: dict, seconds: float, **details) -> None:
    summary = {"counts": counts, "details": details}
    write_json(folder / "receipt.json", {"stage": stage, "digest": digest(stage), "summary": summary})
    write_json(
        folder / "execution.json",
        {"key": "f00d" * 8, "seconds": seconds, "run_id": "ab12" * 8, "cached": stage == "adapt"},
    )


def estimate(mean: float, width: float, items: int = 240, images: int = 80) -> dict:
    ends = {"low": mean - width, "high": mean + width}
    return {"mean": mean, **ends, "error": width / 2, "items": items, "images": images}


def write_scores(folder: Path, root: Path, passed: bool) -> None:
    gain = 0.24 if passed else 0.01
    entries, answers = [], []
    kinds = ("presence", "counting", "naming", "colour", "which_of_two")
    names = [f"{k}_{c}" for c in ("trained", "aligned", "unseen") for k in kinds] + ["easy_vqa"]
    for n, name in enumerate(names):
        base = 0.3 + 0.25 * uniform(1, name)
        tuned = base + gain * (1.4 if n < 5 else 0.9 if n < 10 else 0.3)
        blind = [("tuned", "shuffled", base + 0.02), ("tuned", "none", base - 0.03)]
        scores = [("tuned", "image", tuned), ("base", "image", base), *blind]
        rows = [{"model": m, "condition": c, **estimate(v, 0.05)} for m, c, v in scores]
        exact = [r for r in rows if r["condition"] == "image"] if n % 4 == 0 else []
        diff = {"of": ["tuned", "image"], "minus": ["base", "image"], **estimate(tuned - base, 0.06)}
        entries.append({"name": name, "majority": 0.33, "scores": rows, "differences": [diff], "exact_match": exact})
        image, _ = scene(root, f"heldout/{n:02d}.png", 100 + n)
        for model in ("base", "tuned"):
            right = model == "tuned" and n % 3 > 0
            answers.append(
                {
                    "item": f"{name}/1", "benchmark": name, "task": kinds[n % 5], "concepts": "trained",
                    "image": image.sha256, "path": image.path, "question": "What is on the left?", "gold": "apple",
                    "model": model, "condition": "image", "kind": "generation",
                    "answer": "apple" if right else f"a {PLANTED}", "metrics": {"exact_match": float(right)},
                }
            )  # fmt: skip
    titles = ("New layouts of trained concepts", "Concepts never instructed", "Concepts never seen")
    groups = [{**entries[5 * k], "name": t, "benchmarks": names[5 * k : 5 * k + 5]} for k, t in enumerate(titles)]
    card = {"schema": 1, "primary": "accuracy: the best choice is the gold one", "options": {"confidence": 0.95}}
    write_json(folder / "scorecard.json", card | {"benchmarks": entries, "groups": groups})
    write_text(folder / "answers.jsonl", "".join(json.dumps(a) + "\n" for a in answers))
    checks = []
    for role, comparison, benchmarks, mean in (
        ("target", "tuned - base", names[4:10], gain),
        ("target", "image - shuffled", names[4:10], gain - 0.02),
        ("protected", "tuned - base", names[:1], gain + 0.1),
        ("protected", "tuned - base", names[1:2], gain / 2),
    ):
        found = estimate(mean, 0.05)
        good = found["low"] > 0 or role == "protected"
        about = {"role": role, "comparison": comparison, "benchmarks": benchmarks, "estimate": found}
        reason = f"{role}, {comparison}: {100 * mean:+.1f} points"
        checks.append({**about, "verdict": "pass" if good else "inconclusive", "reason": reason})
    verdict = "pass" if passed else "inconclusive"
    reasons = [c["reason"] for c in checks if c["verdict"] == verdict and c["role"] == "target"]
    write_json(folder / "verdict.json", {"verdict": verdict, "reasons": reasons, "checks": checks})


def write_history(path: Path) -> None:
    lines = []
    for stage, steps, start, end in (("align", 60, 5.0, 1.4), ("instruct", 240, 2.9, 0.5)):
        for n in range(steps):
            noise = 0.3 * (uniform(3, stage, n) - 0.5)
            loss = end + (start - end) * math.exp(-5 * n / steps) + noise
            lines.append({"stage": stage, "step": n, "loss": loss, "rate": 1.0})
            if stage == "instruct" and n % 60 == 59:
                lines[-1]["validation_loss"] = loss + 0.1
    write_text(path, "".join(json.dumps(line) + "\n" for line in lines))


def pipeline(root: Path, passed: bool = True, images: int = 24) -> dict[str, Path]:
    """The output folders of every stage before the report."""
    stages = ("sources", "adapt", "self_instruct", "validate", "tune", "evaluate", "promote")
    inputs = {stage: root / stage for stage in stages}
    for folder in inputs.values():
        folder.mkdir(parents=True)
    benchmarks = [{"name": "easy_vqa", "licence": "MIT"}]
    write_json(inputs["sources"] / "sources.json", {"datasets": [{"name": "demo-train"}], "benchmarks": benchmarks})
    write_release(inputs["validate"], images)
    write_scores(inputs["evaluate"], inputs["sources"], passed)
    write_history(inputs["tune"] / "history.jsonl")
    connector, frozen = (
        {"parameters": 1_902_656, "learning_rate": 1e-3},
        {"parameters": 106_203_456, "learning_rate": 0.0},
    )
    roles = {
        "align": {"connector": connector, "language": frozen},
        "instruct": {"connector": connector, "language": frozen | {"learning_rate": 2e-5}},
    }
    aliases = ["challenger", "champion"] if passed else ["challenger"]
    promotion = {
        "name": "vistune-demo", "version": "3", "aliases": aliases, "champion": "3" if passed else "2", "previous": "2",
        "verdict": "pass" if passed else "inconclusive", "model_uri": f"models:/vistune-demo@{aliases[-1]}",
        "reasons": ["target, tuned - base: +24.0 points [+19.0, +29.0] on 1,440 questions about 240 images: above 0."],
        "event": {"event": "promote", "who": "root", "when": "2026-11-22T19:40:12Z"},
        "lineage": {
            "git.sha": "0123456789abcdef" * 2, "git.dirty": "false", "release.sha256": "5eed" * 16, "seed": "7",
            "model.sha256": "beef" * 16, "scorecard.sha256": "cafe" * 16, "dvc.sources.md5": "d0c5" * 8 + ".dir",
        },
    }  # fmt: skip
    write_json(inputs["promote"] / "promotion.json", promotion)
    counts = {
        "sources": {"scenes": 2060, "questions": 9120},
        "adapt": {"in": 41_220, "out": 40_102, "rejected": {"too_crowded": 801, "no_name": 290, "box_outside": 27}},
        "self_instruct": {"in": 8_240, "out": 7_911, "rejected": {"mentions_absent": 214, "reply_cut_short": 115}},
        "validate": {"in": 48_013, "out": 47_210, "rejected": {"duplicate": 700, "near_duplicate": 88, PLANTED: 15}},
        "tune": {"in": 47_210, "out": 47_210, "rejected": {}},
        "evaluate": {"in": 3_880, "out": 3_880, "rejected": {}},
        "promote": {"version": 3},
    }  # fmt: skip
    seconds = dict(zip(stages, (21.2, 6.1, 9.4, 17.9, 288.0, 131.0, 2.2), strict=True))
    for stage, folder in inputs.items():
        write_receipt(folder, stage, counts[stage], seconds[stage], **({"roles": roles} if stage == "tune" else {}))
    return inputs


@pytest.fixture(scope="session")
def passed(tmp_path_factory) -> dict[str, Path]:
    return pipeline(tmp_path_factory.mktemp("passed"))


@pytest.fixture(scope="session")
def undecided(tmp_path_factory) -> dict[str, Path]:
    return pipeline(tmp_path_factory.mktemp("undecided"), passed=False, images=6)
