"""The scorecard's numbers, flat metrics and page, from a handful of answers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vistune.evaluate import gallery, page, scorecard
from vistune.evaluate.answers import Answer, Scores, read_answers, write_answers
from vistune.evaluate.gate import Gate, Target, decide
from vistune.records import ImageRef

RUNS = {"base": ("image", "none"), "tuned": ("image", "shuffled", "none")}


@pytest.fixture
def answers(answer: Callable[..., Answer]) -> list[Answer]:
    """Two benchmarks of 40 questions about 20 images; tuned is right on 3 of 4 of them when it sees the image."""
    rows = []
    for benchmark in ("naming_trained", "which"):
        for model, conditions in RUNS.items():
            for condition in conditions:
                for n in range(40):
                    sees = (model, condition) == ("tuned", "image")
                    right = float(n % 4 != 0 if sees else n % 2 == 0)
                    more = {"image": f"sha-{n // 2}", "gold": "a" if n % 4 else "b", "path": f"{n % 6}.png"}
                    rows.append(answer(f"{benchmark}/{n:02d}", model, condition, right, **more))
    for n in range(4):
        for model, text in (("base", "<b>uh</b>"), ("tuned", "a")):
            more = {"kind": "generation", "metrics": {"exact_match": float(text == "a")}, "answer": text, "scores": {}}
            rows.append(answer(f"which/{n:02d}", model, "image", 1.0, **more, image=f"sha-{n // 2}"))
    return rows


@pytest.fixture
def card(answers: list[Answer]) -> dict[str, Any]:
    about = {b: {"task": "naming", "concepts": "trained", "trained_task": True} for b in ("naming_trained", "which")}
    groups = {"Task kind never trained": ["which"]}
    built = scorecard.build(Scores(answers), groups, about, RUNS, seed=0, replicates=200, confidence=0.95)
    return built | {"suite": "demo", "models": {"base": "1" * 64, "tuned": "2" * 64}, "limit": None}


def test_numbers(card: dict[str, Any]) -> None:
    naming, which = card["benchmarks"]
    assert (naming["chance"], naming["majority"]) == (0.5, 0.75)
    tuned = page.cell(naming, "tuned", "image")
    assert tuned and (tuned["mean"], tuned["items"], tuned["images"]) == (0.75, 40, 20)
    assert tuned["low"] < 0.75 < tuned["high"]
    assert page.cell(naming, "base", "shuffled") is None
    differences = {(*d["of"], *d["minus"]): d["mean"] for d in naming["differences"]}
    assert differences == {
        ("tuned", "image", "base", "image"): 0.25,
        ("base", "image", "base", "none"): 0.0,
        ("tuned", "image", "tuned", "shuffled"): 0.25,
        ("tuned", "image", "tuned", "none"): 0.25,
    }
    assert [(r["model"], r["mean"], r["items"]) for r in which["exact_match"]] == [("base", 0.0, 4), ("tuned", 1.0, 4)]
    assert card["groups"][0]["scores"] == which["scores"]


def test_guessing_when_choices_change_with_the_question(answer: Callable[..., Answer]) -> None:
    """Names that each occur once have no majority answer; yes-no questions among them do."""

    def item(n: int, gold: str, choices: tuple[str, ...]) -> Answer:
        return answer(f"b/{n:02d}", "tuned", "image", 1.0, gold=gold, scores=dict.fromkeys(choices, -1.0))

    named = [item(n, f"x{n}", (f"x{n}", f"y{n}")) for n in range(20)]
    asked = [item(n, "yes" if n % 4 else "no", ("yes", "no")) for n in range(20, 40)]
    about = {"b": {"task": "vqa"}}
    (entry,) = scorecard.build(Scores(named + asked), {}, about, {"tuned": ("image",)}, 0, 100, 0.95)["benchmarks"]
    assert (entry["chance"], entry["majority"]) == (0.5, (20 * 0.5 + 20 * 0.75) / 40)


def test_flat_metrics(card: dict[str, Any], answers: list[Answer]) -> None:
    verdict = decide(Gate(Target(("which",)), minimum_images=10), Scores(answers), seed=0, replicates=200)
    flat = scorecard.metrics(card, verdict)
    assert flat["accuracy/which/tuned/image"] == 0.75
    assert (flat["chance/naming_trained"], flat["majority/naming_trained"]) == (0.5, 0.75)
    assert flat["exact_match/which/tuned/image"] == 1.0
    assert flat["difference/target/tuned-base"] == pytest.approx(0.25)
    assert flat["difference/target/tuned-base/low"] < 0.25 < flat["difference/target/image-shuffled/high"]
    assert flat["gate/pass"] + flat["gate/fail"] + flat["gate/inconclusive"] == 1
    assert all(type(v) is float for v in flat.values())


def test_page_is_whole_and_escapes(
    card: dict[str, Any], answers: list[Answer], pictures: tuple[Path, list[ImageRef]]
) -> None:
    verdict = decide(Gate(Target(("which",))), Scores(answers), seed=0, replicates=200)
    errors = gallery.errors(answers, pictures[0], seed=0, count=6)
    pairs = gallery.side_by_side(answers, seed=0)
    html = page.render(card, verdict, errors, pairs, pictures[0])
    assert html.count("<svg") == html.count("</svg>") > 1
    assert "&lt;b&gt;uh&lt;/b&gt;" in html and "<b>uh" not in html
    assert verdict["verdict"] in html and all(reason in html for reason in verdict["reasons"][0].split(": ")[:1])
    assert "src=" in html and 'src="http' not in html and "{{" not in html
    assert page.render(card, verdict, errors, pairs, pictures[0]) == html


def test_plot_places_shares_on_the_axis(card: dict[str, Any]) -> None:
    plot = page.plot(card)
    assert [t["text"] for t in plot["titles"]] == ["Task kind never trained", "Other benchmarks"]
    assert [line["name"] for line in plot["lines"]] == ["which", "naming_trained"]
    for line in plot["lines"]:
        for mark in line["marks"]:
            assert plot["left"] <= mark["x1"] <= mark["x"] <= mark["x2"] <= plot["width"]
    tuned = plot["lines"][0]["marks"][-1]
    assert tuned["style"] == "tuned" and tuned["x"] == page.LEFT + 0.75 * page.WIDTH


def test_gallery_shows_errors_of_all_benchmarks(answers: list[Answer], pictures: tuple[Path, list[ImageRef]]) -> None:
    rows = gallery.errors(answers, pictures[0], seed=0, count=6)
    assert [r["benchmark"] for r in rows] == ["naming_trained", "which"] * 3
    assert all(r["tuned"] == "b" and r["picture"].startswith("data:image/jpeg") for r in rows)
    assert rows == gallery.errors(answers[::-1], pictures[0], seed=0, count=6)
    assert gallery.errors([a for a in answers if a.model == "base"], pictures[0], seed=0) == []


def test_side_by_side_keeps_questions_of_an_image_together(answers: list[Answer]) -> None:
    rows = gallery.side_by_side(answers, seed=0, images=1)
    assert len(rows) == 2 and len({r["image"] for r in rows}) == 1
    assert {(r["base"], r["tuned"]) for r in rows} == {("<b>uh</b>", "a")}


def test_answers_file_is_sorted_and_comes_back(answers: list[Answer], tmp_path: Path) -> None:
    write_answers(tmp_path / "a.jsonl", answers)
    write_answers(tmp_path / "b.jsonl", answers[::-1])
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert {(a.item, a.model, a.condition, a.kind) for a in read_answers(tmp_path / "a.jsonl")} == {
        (a.item, a.model, a.condition, a.kind) for a in answers
    }
