"""The scorecard's numbers, flat metrics and page, from a handful of answers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vistune.answers import Answer, Scores, read_answers, write_answers
from vistune.evaluate import gallery, page, scorecard
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
    described = {"task": "naming", "concepts": "trained", "trained_task": True, "licence": "CC0"}
    about = dict.fromkeys(("naming_trained", "which"), described)
    groups = {"Task kind never trained": ["which"]}
    built = scorecard.build(Scores(answers), groups, about, RUNS, seed=0, replicates=200, confidence=0.95)
    return built | {"suite": "demo", "models": {"base": "1" * 64, "tuned": "2" * 64}, "limit": None, "judge": None}


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
    errors = gallery.errors(answers, [pictures[0]], seed=0, count=6)
    pairs = gallery.side_by_side(answers, seed=0)
    html = page.render(card, verdict, errors, pairs, [pictures[0]])
    assert html.count("<svg") == html.count("</svg>") > 1
    assert "&lt;b&gt;uh&lt;/b&gt;" in html and "<b>uh" not in html
    assert verdict["verdict"] in html and all(reason in html for reason in verdict["reasons"][0].split(": ")[:1])
    assert "src=" in html and 'src="http' not in html and "{{" not in html
    assert page.render(card, verdict, errors, pairs, [pictures[0]]) == html


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
    rows = gallery.errors(answers, [pictures[0]], seed=0, count=6)
    assert [r["benchmark"] for r in rows] == ["naming_trained", "which"] * 3
    assert all(r["tuned"] == "b" and r["picture"].startswith("data:image/jpeg") for r in rows)
    assert rows == gallery.errors(answers[::-1], [pictures[0]], seed=0, count=6)
    assert gallery.errors([a for a in answers if a.model == "base"], [pictures[0]], seed=0) == []


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


def made(rows: list[Answer], runs: dict[str, tuple[str, ...]], **more: Any) -> dict[str, Any]:
    described = {"task": "vqa", "concepts": "external", "trained_task": False, "licence": "CC0"}
    about = {a.benchmark: described | more.get(a.benchmark, {}) for a in rows}
    seen = more.get("contaminated", ())
    card = scorecard.build(Scores(rows), {}, about, runs, 0, 200, 0.95, seen)
    return card | {"suite": "s", "models": {"tuned": "2" * 64}, "limit": None, "judge": None}


def test_an_answer_independent_model_scores_at_the_blind_baselines(answer: Callable[..., Answer]) -> None:
    """Always "yes": the majority baseline exactly, with nothing between the image and every blind condition."""
    conditions = ("image", "shuffled", "blank", "none")
    rows = []
    for condition in conditions:
        for n in range(60):
            gold = "yes" if n % 3 else "no"
            more = {"gold": gold, "answer": "yes", "scores": {"yes": -1.0, "no": -2.0}, "task": "abc"[n % 3]}
            rows.append(answer(f"b/{n:02d}", "tuned", condition, float(gold == "yes"), **more))
    card = made(rows, {"tuned": conditions})
    (entry,) = card["benchmarks"]
    assert entry["majority"] == pytest.approx(2 / 3) and entry["chance"] == 0.5
    assert [row["mean"] for row in entry["scores"]] == pytest.approx([entry["majority"]] * 4)
    assert [(d["mean"], d["low"], d["high"]) for d in entry["differences"]] == [(0.0, 0.0, 0.0)] * 3
    (first, *_) = entry["yes_no"]
    assert (first["said_yes"], first["true_yes"], first["false_yes"]) == (1.0, 1.0, 1.0)
    assert first["is_yes"] == pytest.approx(2 / 3) and first["neither"] == 0
    assert [(c["name"], c["scores"][0]["mean"]) for c in entry["categories"]] == [("a", 0.0), ("b", 1.0), ("c", 1.0)]
    verdict = decide(Gate(Target(("b",), over=("shuffled",))), Scores(rows), seed=0, replicates=200)
    assert verdict["verdict"] == "fail"
    html = page.render(card, verdict, [], [], [])
    assert "tuned, grey image" in html and "Does it say yes too often?" in html and "b by category" in html


def test_free_answers_have_a_majority_where_gold_recurs(answer: Callable[..., Answer]) -> None:
    def rows(golds: list[str]) -> list[Answer]:
        free = {"kind": "generation", "scores": {}, "metrics": {"accuracy": 0.0}, "answer": "a dog here"}
        return [answer(f"b/{n:02d}", "tuned", "image", 0.0, **free | {"gold": g}) for n, g in enumerate(golds)]

    (entry,) = made(rows(["Yes", "yes", "no", "yes"] * 5), {"tuned": ("image",)})["benchmarks"]
    assert (entry["chance"], entry["majority"]) == (None, 0.75)
    words = {"mean": 3.0, "median": 3.0, "p95": 3.0, "longest": 3, "empty": 0.0}
    assert entry["lengths"] == [{"model": "tuned", "condition": "image", "answers": 20, **words}]
    assert entry["yes_no"][0]["neither"] == 1.0
    (entry,) = made(rows([f"a caption {n}" for n in range(20)]), {"tuned": ("image",)})["benchmarks"]
    assert entry["majority"] is None and entry["yes_no"] == []


def test_contaminated_items_are_scored_apart(answer: Callable[..., Answer]) -> None:
    rows = [answer(f"b/{n:02d}", "tuned", "image", float(n < 10)) for n in range(40)]
    counted = {"items": 40, "contaminated": 10, "how": {"near": 10, "mirrored": 0}, "example": None}
    standing = {"status": "held_in", "clusters": ["short"], "because": "gqa was trained on"}
    more = {"b": {"contamination": counted, "standing": standing}}
    card = made(rows, {"tuned": ("image",)}, contaminated={f"b/{n:02d}" for n in range(10)}, **more)
    (entry,) = card["benchmarks"]
    found = {p["name"]: (p["scores"][0]["mean"], p["scores"][0]["items"]) for p in entry["parts"]}
    assert found == {"clean": (0.0, 30), "contaminated": (1.0, 10)}
    assert entry["scores"][0]["mean"] == 0.25
    html = page.render(card, decide(Gate(Target(("b",))), Scores(rows), 0, 100), [], [], [])
    assert "10 of 40" in html and "held in: gqa was trained on" in html and "near 10" in html


def test_models_behind_servers_stand_beside_ours(answer: Callable[..., Answer]) -> None:
    rows = [answer(f"b/{n:02d}", m, "image", float(n < 20)) for n in range(40) for m in ("base", "other-7b", "tuned")]
    card = made(rows, {"tuned": ("image",), "other-7b": ("image",), "base": ("image",)})
    assert [name for name, _, _ in page.columns(card)] == ["base", "tuned", "other-7b"]
    assert [style for _, _, style, _ in page.marks(card)] == ["base", "tuned", "other"]
    html = page.render(card, decide(Gate(Target(("b",), over=("base",))), Scores(rows), 0, 100), [], [], [])
    assert "<th>base</th><th>tuned</th><th>other-7b</th>" in html and "image − shuffled" not in html


def test_sensitivity_to_the_wording(answer: Callable[..., Answer]) -> None:
    rows = []
    for name, share in (("b", 10), ("b_1", 20), ("b_2", 30), ("alone", 5)):
        rows += [answer(f"{name}/{n:02d}", "tuned", "image", float(n < share)) for n in range(40)]
    card = made(rows, {"tuned": ("image",)}, b_1={"wording_of": "b"}, b_2={"wording_of": "b"})
    (row,) = card["sensitivity"]
    assert row["sensitivity"] == pytest.approx((2 / 3) ** 0.5 * 0.25 / 0.5)
    assert row["tasks"] == [{"task": "b", "low": 0.25, "mean": 0.5, "high": 0.75, "wordings": 3}]
    verdict = decide(Gate(Target(("b",))), Scores(rows), 0, 100)
    assert scorecard.metrics(card, verdict)["sensitivity/tuned/image"] == pytest.approx(row["sensitivity"])
    assert "Sensitivity to the wording" in page.render(card, verdict, [], [], [])


def test_aggregates_are_on_the_card_with_intervals(answer: Callable[..., Answer]) -> None:
    rows = []
    for model, good in (("base", 3), ("tuned", 5)):
        for n in range(60):
            yes, right = n % 2 == 0, n % 6 < good
            terms = {"f1": {"": (2.0 * (yes and right), float(yes) + float(yes == right))}}
            rows.append(answer(f"b/{n:02d}", model, "image", float(right), terms=terms))
    card = made(rows, {"base": ("image",), "tuned": ("image",)})
    (table,) = card["benchmarks"][0]["metrics"]
    base, tuned = table["scores"]
    assert table["metric"] == "f1" and base["low"] < base["mean"] < base["high"] < 1
    assert (base["mean"], tuned["mean"]) == (pytest.approx(4 / 7), pytest.approx(6 / 7))
    (gain,) = table["differences"]
    assert gain["mean"] == pytest.approx(2 / 7) and 0 < gain["low"] < gain["high"] and gain["detectable"] > 0
    verdict = decide(Gate(Target(("b",), over=("base",), metric="f1")), Scores(rows), 0, 300)
    assert verdict["verdict"] == "pass" and "+28.6 points" in verdict["reasons"][0]
    html = page.render(card, verdict, [], [], [])
    assert "<td>f1 ↑</td>" in html and "+28.6" in html


def test_files_fit_their_published_schemas(card: dict[str, Any], answers: list[Answer]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    from vistune.schema_docs import json_schema

    verdict = decide(Gate(Target(("which",))), Scores(answers), seed=0, replicates=200)
    verdict = {"schema": scorecard.SCHEMA_VERSION, "gate_name": "demo", **verdict}
    for name, value in (("scorecard", card), ("verdict", verdict)):
        validator = jsonschema.Draft202012Validator(json_schema(name))
        validator.check_schema(json_schema(name))
        plain = json.loads(json.dumps(value))
        validator.validate(plain)
        for key in plain:
            assert list(validator.iter_errors({k: v for k, v in plain.items() if k != key})), key
        assert list(validator.iter_errors({**plain, "surprise": 1}))


def test_the_gallery_shows_inventions(answer: Callable[..., Answer], pictures: tuple[Path, list[ImageRef]]) -> None:
    """A benchmark without right and wrong: what counts is the metric of which less is better."""
    free = {"kind": "generation", "scores": {}, "answer": "a kite"}
    rows = [
        answer("c/1", "tuned", "image", 0.0, **free, metrics={"hallucinated": 1.0, "length": 2.0}),
        answer("c/1", "base", "image", 0.0, **free, metrics={"hallucinated": 0.0, "length": 2.0}),
        answer("c/2", "tuned", "image", 0.0, **free, metrics={"hallucinated": 0.0, "length": 2.0}),
        answer("d/1", "tuned", "image", 0.0, **free, metrics={"length": 2.0}),
    ]
    better = {"c": {"hallucinated": False, "length": None}, "d": {"length": None}}
    (row,) = gallery.errors(rows, [pictures[0]], seed=0, better=better)
    assert (row["benchmark"], row["measure"], row["score"], row["base_score"]) == ("c", "hallucinated", 1.0, 0.0)
    verdict = decide(Gate(Target(("c",))), Scores([]), 0, 100)
    tuned = [a for a in rows if a.model == "tuned"]
    html = page.render(made(tuned, {"tuned": ("image",)}), verdict, [row], [], [pictures[0]])
    assert "(hallucinated 1)" in html and "(hallucinated 0)" in html
    assert gallery.errors(rows, [pictures[0]], seed=0) == []


def test_the_gallery_says_why(answer: Callable[..., Answer], pictures: tuple[Path, list[ImageRef]]) -> None:
    free = {"kind": "generation", "scores": {}, "answer": "purple"}
    rows = [
        answer("a/1", "tuned", "image", 0.0),
        answer("b/1", "tuned", "image", 0.0, **free, metrics={"accuracy": 0.0, "unparsed": 1.0}),
        answer("c/1", "tuned", "image", 0.0, **free, metrics={"accuracy": 0.3}, path="", image=""),
        answer("c/1", "base", "image", 1.0, **free, metrics={"accuracy": 1.0}, path="", image=""),
    ]
    found = {row["benchmark"]: row for row in gallery.errors(rows, [pictures[0]], seed=0)}
    assert found["a"]["why"] == 'ranked "b" -1.00 nats a token before "a"'
    assert "names none of the choices" in found["b"]["why"] and found["b"]["base_score"] is None
    assert found["c"]["why"] == "the benchmark's scorer gives accuracy 0.30" and found["c"]["picture"] == ""
    assert (found["c"]["score"], found["c"]["base_score"]) == (0.3, 1.0)
