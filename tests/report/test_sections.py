"""Each section's pure function: the numbers that decide what a reader believes."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vistune.records import ImageRef, Region
from vistune.report import charts, examples, pictures, scores, sections
from vistune.stages import Receipt


def receipt(stage: str, **summary) -> Receipt:
    return Receipt(stage, f"{stage}digest", summary, seconds=61.0, run_id=f"run-{stage}", key=f"key-{stage}")


def test_flow_counts_rejects_and_orders_reasons():
    counts = {"in": 100, "out": 75, "rejected": {"small": 5, "double": 20}, "cost": 3}
    (line,) = sections.flow({"adapt": receipt("adapt", counts=counts)})
    assert (line["entered"], line["left"], line["rejected"], line["share"]) == (100, 75, 25, 25.0)
    assert line["reasons"] == [("double", 20), ("small", 5)]
    assert line["extra"] == [("cost", 3)]
    assert line["time"] == "1 min 1 s"


@pytest.mark.parametrize("counts", [{}, {"scenes": 4}, {"in": 0, "out": 0, "rejected": {}}])
def test_flow_of_stages_without_rejects(counts):
    (line,) = sections.flow({"s": receipt("s", counts=counts)})
    assert (line["rejected"], line["share"], line["reasons"]) == (0, 0.0, [])


def test_header_says_champion_only_with_the_alias():
    facts = {"name": "m", "version": "4", "aliases": ["challenger"], "reasons": ["r"]}
    header = sections.header(facts, {"verdict": "fail"}, {"a": receipt("a")}, {"digest": "d" * 64})
    assert (header["state"], header["verdict"]) == ("challenger", "fail")
    assert ("Release", "d" * 12) in header["facts"]
    assert sections.header({**facts, "aliases": ["challenger", "champion"]}, {}, {}, {})["state"] == "champion"
    assert sections.header({**facts, "version": "", "aliases": []}, {}, {}, {})["state"] == "not registered"


def test_composition_shares_add_up():
    rows = [{"task": t, "method": "adapt", "language": "en", "split": "train"} for t in "aab"]
    task, method, *_ = sections.composition(rows)
    assert [(p["name"], p["count"]) for p in task["parts"]] == [("a", 2), ("b", 1)]
    assert sum(p["share"] for p in task["parts"]) == pytest.approx(100, abs=0.1)
    assert method["parts"] == [{"name": "adapt", "count": 3, "share": 100.0}]
    assert sections.composition([]) == []


def test_curves_leave_out_what_is_not_a_number():
    history = [{"stage": "a", "step": n, "loss": 2.0 - n} for n in range(2)]
    history += [{"stage": "a", "step": 2, "loss": loss} for loss in (math.nan, "x", None)] + [{"stage": "b", "step": 0}]
    (curve,) = sections.curves(history)
    assert (curve["stage"], curve["steps"], curve["first"], curve["final"]) == ("a", 2, "2.000", "1.000")
    assert sections.curves([]) == []


def test_lineage_of_a_run_that_registered_nothing_still_names_digests_and_runs():
    groups = {g["title"]: g["rows"] for g in sections.lineage({}, {"tune": receipt("tune")})}
    assert groups["Model"] == [("tune.digest", "tunedigest")]
    assert groups["MLflow runs"] == [("tune", "run-tune")]
    assert "Registry" not in groups


def test_licences_count_samples_and_name_whom_to_credit():
    rows = [{"licence": "CC0"}, {"licence": "CC0"}, {"licence": ""}]
    credits = {f"{n}.png": {"licence": "CC BY", "attribution": f"artist {n % 14}"} for n in range(15)}
    credits["x.png"] = {"licence": "CC0", "attribution": ""}
    sources = {"benchmarks": [{"name": "a", "licence": "MIT"}, {"name": "b", "licence": "MIT"}, {"name": "c"}]}
    found = sections.licences(rows, credits, sources)
    assert found["samples"] == [("CC0", 2), ("", 1)]
    assert found["credits"][0] == {"who": "artist 0", "licence": "CC BY", "images": 2}
    assert (len(found["credits"]), found["more"]) == (sections.CREDITS, 2)
    assert found["benchmarks"] == [("", ["c"]), ("MIT", ["a", "b"])]


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(1, 10))
def test_ticks_cover_the_range_with_few_even_steps(low, width, about):
    ticks = charts.nice_ticks(low, low + width, about)
    step = ticks[1] - ticks[0]
    tolerance = 1e-6 * max(abs(low), width, 1)
    assert ticks[0] <= low + tolerance
    assert ticks[-1] >= low + width - tolerance
    assert len(ticks) <= about + 3 or step <= tolerance
    assert all(b - a == pytest.approx(step, rel=1e-3, abs=tolerance) for a, b in pairwise(ticks))


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=700), st.integers(1, 300))
def test_thinning_and_smoothing_keep_the_mean_in_range(values, limit):
    raw = list(enumerate(values))
    thinned = charts.thin(raw, limit)
    assert len(thinned) == min(limit, len(raw))
    for line in (thinned, charts.smooth(raw, 9)):
        assert all(min(values) - 1e-6 <= y <= max(values) + 1e-6 for _, y in line)
    assert [x for x, _ in thinned] == sorted(x for x, _ in thinned)


def test_a_chart_stays_inside_and_ignores_one_outlier():
    raw = [(float(n), 1.0) for n in range(400)]
    raw[5] = (5.0, 1e6)
    chart = charts.line_chart(raw, [(399.0, 0.5)])
    assert chart["y_ticks"][-1]["text"] == "1"
    assert chart["dots"] == [{"x": 100.0, "y": 50.0, "text": "0.500"}]
    numbers = [float(v) for part in chart["raw"].lstrip("M").split("L") for v in part.split()]
    assert all(0 <= v <= 100 for v in numbers)
    assert charts.line_chart([(0.0, 0.0)])["raw"].startswith("M0 ")
    assert [t["text"] for t in charts.line_chart([(n, 1.0) for n in range(3)])["x_ticks"]] == ["0", "1", "2"]


def test_boxes_are_percent_once_each_without_the_background():
    image = ImageRef("s", 200, 100, "png", "p")
    regions = [
        Region((0, 0, 200, 100), "sky", "0"),
        Region((20, 50, 40, 100), "dog", "1"),
        Region((20, 50, 40, 100), "dog", "1"),
        Region((140, 0, 200, 100), "tree", "2"),
    ]
    tree, dog = pictures.boxes(image, regions)
    assert (dog["x"], dog["y"], dog["w"], dog["h"]) == (10, 50, 10, 50)
    assert (dog["anchor"], tree["anchor"], tree["dy"]) == ("start", "end", 12)


def rows(tasks: int = 8, images: int = 30):
    return [
        {"id": f"{i}-{t}", "task": f"t{t}", "method": "adapt" if t < tasks else "self_instruct", "image": f"i{i}"}
        for i in range(images)
        for t in range(tasks + 4)
    ]


def test_the_sheet_shows_every_task_and_each_image_once():
    sheet = examples.choose_sheet(rows(), 12, seed=1)
    assert len(sheet) == 12
    assert {i.split("-")[1] for group in sheet for i in group} == {str(t) for t in range(8)}
    assert len({group[0].split("-")[0] for group in sheet}) == 12
    assert all(len({i.split("-")[1] for i in group}) == examples.INSTRUCTIONS for group in sheet)
    assert sheet == examples.choose_sheet(rows()[::-1], 12, seed=1)
    assert sheet != examples.choose_sheet(rows(), 12, seed=2)


def test_dialogues_take_turns_between_kinds():
    chosen = examples.choose_dialogues(rows(), 6, seed=1)
    assert [i.split("-")[1] for i in chosen] == ["10", "11", "8", "9", "10", "11"]
    assert examples.choose_dialogues([], 6, seed=1) == []


def estimate(mean, low, high):
    return {"mean": mean, "low": low, "high": high, "items": 1200, "images": 40}


def check(role="target", verdict="pass", **found):
    about = {"role": role, "comparison": "tuned - base", "benchmarks": ["a"]}
    return {**about, "verdict": verdict, "estimate": found or None}


def test_the_gates_axis_holds_zero_and_every_interval():
    worse = check("protected", "fail", mean=-0.1, low=-0.2, high=0.0)
    block = scores.decisive([check(mean=0.2, low=0.1, high=0.33), worse])
    zero = next(t["at"] for t in block["ticks"] if t["zero"])
    target, protected = (row["marks"][0] for row in block["rows"])
    assert zero < target["low"] < target["at"] < target["high"] < 100
    assert 0 <= protected["low"] < protected["at"] < protected["high"] == zero
    assert [r["target"] for r in block["rows"]] == [True, False]
    assert block["rows"][0]["read"][0]["text"] == "+20.0 [+10.0, +33.0]"


def test_benchmarks_that_are_protected_together_are_counted():
    pooled = check("protected", mean=0.1, low=0.0, high=0.2) | {"benchmarks": ["a_b", "c"]}
    rows = scores.decisive([pooled, pooled | {"benchmarks": ["a_b"]}])["rows"]
    assert [(row["name"], row["note"]) for row in rows] == [
        ("2 benchmarks together", "protected: tuned − base"),
        (scores.words("a_b"), "protected: tuned − base"),
    ]


def test_totals_are_told_in_their_own_points():
    """31 of MME's 2,000 points are no 3,100 percent, and are not drawn beside differences of shares."""
    total = check("protected", mean=31.0, low=-5.0, high=67.0) | {"scale": 1.0}
    block = scores.decisive([check(mean=0.2, low=0.1, high=0.33), total])
    assert [bool(row["marks"]) for row in block["rows"]] == [True, False]
    assert block["rows"][1]["read"][0]["text"] == "+31.0 [-5.0, +67.0]"
    assert max(float(tick["text"].strip("+")) for tick in block["ticks"]) < 50


def test_a_check_without_numbers_has_no_mark():
    (row,) = scores.decisive([check(verdict="fail")])["rows"]
    assert (row["marks"], row["read"][0]["text"], row["read"][1]["text"]) == ([], "not measured", "fail")
    assert scores.decisive([]) is None


def test_a_benchmark_shows_both_models_and_the_blind_baselines():
    measured = [("base", "image", 0.5), ("tuned", "image", 0.8), ("tuned", "none", 0.3), ("base", "none", 0.3)]
    rows = [{"model": m, "condition": c, **estimate(v, v - 0.1, v + 0.1)} for m, c, v in measured]
    entry = {"majority": 0.25, "scores": rows}
    row = scores.benchmark(entry, "naming_aligned")
    assert [(m["name"], m["at"], m["low"], m["high"]) for m in row["marks"]] == [
        ("tuned", 80.0, 70.0, 90.0),
        ("base", 50.0, 40.0, 60.0),
        ("tuned, no image", 30.0, 20.0, 40.0),
    ]
    assert (row["name"], row["note"], row["majority"]) == ("naming, aligned", "1,200 questions · 40 images", 25.0)
    assert [r["text"] for r in row["read"]] == ["80.0 [70.0, 90.0]", "50.0 [40.0, 60.0]"]


def test_a_score_without_an_interval_is_a_dot():
    entry = {"scores": [{"model": "tuned", "condition": "image", "mean": 0.5, "low": None, "high": None}]}
    assert scores.benchmark(entry, "x")["marks"][0]["low"] is None
    assert scores.benchmark({"scores": [{"model": "tuned", "condition": "image", "mean": None}]}, "x")["marks"] == []


def test_a_benchmark_of_two_groups_is_shown_once():
    score = {"model": "tuned", "condition": "image", **estimate(0.5, 0.4, 0.6)}
    entry = {"name": "a", "majority": None, "scores": [score]}
    groups = [{**entry, "name": t, "benchmarks": ["a"]} for t in ("first", "second")]
    card = scores.scorecard({"benchmarks": [entry, {**entry, "name": "b"}], "groups": groups}, {})
    shown = [(g["title"], [r["name"] for r in g["rows"]]) for g in card["groups"]]
    assert shown == [("first", ["a"]), ("Other benchmarks", ["b"])]
    assert [line["name"] for line in card["table"]] == ["a", "b"]


def answer(item, model, benchmark="b", condition="image", kind="generation"):
    metrics = {"exact_match": float(model == "tuned")}
    return {
        "item": item, "model": model, "benchmark": benchmark, "condition": condition, "kind": kind, "image": "x",
        "path": "gone.png", "question": "q", "gold": "g", "answer": model, "metrics": metrics,
    }  # fmt: skip


def test_answers_are_compared_only_where_both_models_saw_the_image(tmp_path):
    both = [answer(f"{b}/{n}", m, b) for b in "ab" for n in range(3) for m in ("base", "tuned")]
    alone = [answer("c/1", "tuned", "c"), answer("d/1", "tuned", "d", "none"), answer("d/1", "base", "d", "none")]
    cards = scores.side_by_side(both + alone, tmp_path, tmp_path / "kept", 4, seed=0)
    assert [c["benchmark"] for c in cards] == ["a", "b", "a", "b"]
    assert [(a["model"], a["right"]) for a in cards[0]["answers"]] == [("base", False), ("tuned", True)]
    assert scores.side_by_side([], tmp_path, tmp_path, 4, seed=0) == []
    published = [{**a, "metrics": {"accuracy": a["metrics"]["exact_match"]}} for a in both]  # scores its free answers
    cards = scores.side_by_side(published, tmp_path, tmp_path, 1, seed=0)
    assert [(a["model"], a["right"]) for a in cards[0]["answers"]] == [("base", False), ("tuned", True)]
    captions = [{**a, "metrics": {"accuracy": 0.31} if a["model"] == "tuned" else {"length": 9.0}} for a in both]
    cards = scores.side_by_side(captions, tmp_path, tmp_path, 1, seed=0)
    assert [(a["right"], a["sign"]) for a in cards[0]["answers"]] == [(None, ""), (False, "0.31")]


def test_pictures_of_published_benchmarks_come_from_the_copies_that_evaluate_keeps(tmp_path):
    """Six pictures, one of them in the sources, one as a copy: those two are shown, whatever the draw."""
    (tmp_path / "kept").mkdir()
    Image.new("RGB", (60, 30), "red").save(tmp_path / "kept" / "sha3.webp")
    Image.new("RGB", (30, 60), "blue").save(tmp_path / "5.png")
    rows = [
        {**answer(f"gqa/{n}", model, "gqa"), "image": f"sha{n}", "path": f"gqa/images/{n}.jpg" if n < 5 else "5.png"}
        for n in range(6)
        for model in ("base", "tuned")
    ]
    for seed in range(4):
        cards = scores.side_by_side(rows, tmp_path, tmp_path / "kept", 3, seed)
        found = {(c["name"], c["width"], c["height"]) for c in cards[:2]}
        assert found == {("gqa/images/3.jpg", 60, 30), ("5.png", 30, 60)}
        assert [bool(c["source"]) for c in cards] == [True, True, False]


def test_what_trains_is_told_with_its_adapters():
    made = {"learning_rate": 0.002, "lora": 32, "trained": 9_768_960, "parameters": 106_203_456, "quantised": ""}
    assert sections.trained(made) == {"rate": 0.002, "count": "LoRA 32, 9,768,960 beside 106,203,456"}
    assert sections.trained(made | {"quantised": "nf4"})["count"] == "LoRA 32 over nf4, 9,768,960 beside 106,203,456"
    assert sections.trained({"learning_rate": 0.0, "parameters": 7}) == {"rate": 0.0, "count": "7"}
