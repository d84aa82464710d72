"""Published benchmarks through the whole stage on tiny random models: short answers, yes or no, letters under rotation,
ranked choices, charts; and one that a judge reads."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from vistune import evaluate, store
from vistune.answers import read_answers
from vistune.errors import VistuneError
from vistune.evaluate import Conditions, Judge, Params, judge
from vistune.evaluate.scorers import mmbench, pope
from vistune.records import Lineage, Sample, conversation
from vistune.schema_docs import json_schema
from vistune.sources import Manifest, write_manifest
from vistune.stages import Context

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(model_folders: Path, data: Path, tmp_path: Path) -> Any:
    for folder in ("release", "sources"):
        (tmp_path / folder).mkdir()
    store.write_samples(tmp_path / "release", [])
    write_manifest(tmp_path / "sources", Manifest())
    shutil.copytree(REPOSITORY / "eval", tmp_path / "eval")
    captions = tmp_path / "eval" / "tasks" / "chair" / "chair.yaml"
    captions.write_text(captions.read_text().replace("max_gen_toks: 512", "max_gen_toks: 8"))
    inputs = {"sources": tmp_path / "sources", "tune": model_folders, "validate": tmp_path / "release"}

    def stage(output: str = "out", **params: Any) -> dict[str, Any]:
        (tmp_path / output).mkdir(exist_ok=True)
        settings = {"gate": "all", "limit": None, "replicates": 50, "data": str(data), **params}
        context = Context(seed=1, home=tmp_path / "home", root=tmp_path)
        return evaluate.run(Params(**settings), inputs, tmp_path / output, context)

    return stage


def results(folder: Path, model: str = "base") -> dict[str, Any]:
    return json.loads((folder / "lm_eval" / f"{model}-image.json").read_text())


def test_quick_suite_end_to_end(run: Any, tmp_path: Path, data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    summary = run(suite="quick", conditions=Conditions(("image",), ("image",)))
    found = results(tmp_path / "out")
    assert str(data) not in json.dumps(found)
    answers = [a for a in read_answers(tmp_path / "out" / "answers.jsonl") if a.model == "base"]
    by = {name: [a for a in answers if a.benchmark == name] for name in found["results"]}
    counts = {"gqa": 3, "pope_adversarial": 4, "mmbench_en_dev": 5, "aokvqa_ranked": 2, "chartqa_human": 1}
    assert {name: len(rows) for name, rows in by.items()} == counts
    assert summary["counts"] == {"in": 15, "out": 15, "rejected": {}}
    for name in ("gqa", "pope_adversarial", "mmbench_en_dev", "chartqa_human"):
        mean = sum(a.metrics["accuracy"] for a in by[name]) / len(by[name])
        assert found["results"][name]["accuracy,none"] == pytest.approx(mean)
        assert summary["metrics"][f"accuracy/{name}/base/image"] == pytest.approx(mean)
    # Ranked: the likeliest choice; rotated: right only when every rotation is; yes or no: whatever is no "no" is a yes.
    for answer in by["aokvqa_ranked"]:
        assert answer.answer == max(answer.scores, key=answer.scores.__getitem__) and len(answer.scores) == 4
    turns = [
        (a.item.split("#")[0], int(a.item.split("#")[1]), bool(a.metrics["accuracy"])) for a in by["mmbench_en_dev"]
    ]
    assert found["results"]["mmbench_en_dev"]["circular,none"] == mmbench.circular(turns)
    yes = sum(pope.answer(a.answer) == "yes" for a in by["pope_adversarial"])
    assert found["results"]["pope_adversarial"]["yes_ratio,none"] == yes / 4
    card = json.loads((tmp_path / "out" / "scorecard.json").read_text())
    assert {b["name"] for b in card["benchmarks"]} == set(counts)
    kept = {path.stem for path in (tmp_path / "out" / "pictures").iterdir()}
    assert kept == {a.image for a in answers} and 0 < len(kept) <= 6 * len(counts), "small copies, for the report"
    assert "gqa: its files hold 3 items, not 12,578" in capfd.readouterr().out
    assert next(b for b in card["benchmarks"] if b["name"] == "gqa")["published"]["held"] == 3
    html = (tmp_path / "out" / "scorecard.html").read_text()
    assert "<td>12,578</td><td>3</td>" in html and "not comparable with published scores" in html
    assert {b["licence"] for b in card["benchmarks"]} >= {"CC-BY-4.0", "GPL-3.0"}
    # The same again comes from the log.
    run("again", suite="quick", conditions=Conditions(("image",), ("image",)))
    assert results(tmp_path / "again") == found


def test_pictures_of_any_number(run: Any, tmp_path: Path) -> None:
    """Questions without a picture, and captions; groups and totals over all items; a gate of which less is better."""
    rules = {"target": {"benchmarks": ["chair"], "over": ["base"], "metric": "hallucinated"}}
    rules["protected"] = [{"benchmarks": ["chair"], "metric": "chair_i", "margin": 0.05}]
    (tmp_path / "eval" / "gates" / "fewer.yaml").write_text(yaml.safe_dump(rules))
    run(suite="hallucination", gate="fewer", conditions=Conditions(("image",), ("image",)))
    verdict = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert {(c["comparison"], c["higher_is_better"]) for c in verdict["checks"]} == {("base - tuned", False)}
    assert "base - tuned (less hallucinated is better)" in verdict["checks"][0]["reason"]
    found = results(tmp_path / "out")
    assert (
        set(found["results"]) >= {"pope", "hallusionbench", "chair"} and found["results"]["chair"]["length,none"] >= 0
    )
    from lm_eval.utils import make_table

    table = make_table(found)  # as lm-eval shows its own results
    assert re.search(r"\|hallucinated *\|↓", table) and re.search(r"\|length *\| ", table)
    f1 = [found["results"][f"pope_{setting}"]["f1,none"] for setting in ("random", "popular", "adversarial")]
    assert found["groups"]["pope"]["f1,none"] == pytest.approx(sum(f1) / 3)
    answers = [a for a in read_answers(tmp_path / "out" / "answers.jsonl") if a.model == "base"]
    hallusion = [a for a in answers if a.benchmark == "hallusionbench"]
    assert [bool(a.image) for a in sorted(hallusion, key=lambda a: a.item)] == [False, True, True]


def test_contamination_blind_conditions_and_wordings(run: Any, tmp_path: Path, data: Path) -> None:
    """A picture of GQA, encoded anew, was trained on: its items are told, scored apart, and decide nothing."""
    from PIL import Image

    picture = next((data / "gqa" / "images").glob("n1.*"))
    (tmp_path / "release" / "images").mkdir()
    Image.open(picture).convert("RGB").save(tmp_path / "release" / "images" / "a.webp", lossless=True)
    image = store.describe_image(tmp_path / "release", "images/a.webp")
    text = {"instruction": "Is it red?", "input": "", "response": "no"}
    text["messages"] = conversation([("Is it red?", "no")])
    about = {"dataset": "vqav2-train", "split": "train", "task": "vqa", "method": "adapt", "licence": "CC0"}
    row = Sample(id="vt1:a", images=(image,), group="g", lineage=Lineage("d/1", (), ()), **text, **about)
    store.write_samples(tmp_path / "release", [row])
    summary = run(suite="wordings", conditions=Conditions(("image", "blank"), ("image", "blank")))
    card = json.loads((tmp_path / "out" / "scorecard.json").read_text())
    verdict = json.loads((tmp_path / "out" / "verdict.json").read_text())
    entry = next(b for b in card["benchmarks"] if b["name"] == "gqa")
    assert entry["contamination"]["contaminated"] == 2 and entry["contamination"]["example"]["sample"] == "vt1:a"
    assert entry["contamination"]["how"] == {"pixels": 2, "question about the picture": 1}
    assert [(p["name"], p["scores"][0]["items"]) for p in entry["parts"]] == [("clean", 1), ("contaminated", 2)]
    assert entry["standing"]["status"] == "cluster_trained" and "vqav2-train" in entry["standing"]["because"]
    decided = [c for c in verdict["checks"] if c["role"] == "protected" and c["benchmarks"] == ["gqa"]]
    assert decided[0]["estimate"]["items"] == 1
    assert {(s["model"], s["condition"]) for s in entry["scores"]} >= {("tuned", "blank"), ("base", "blank")}
    assert {row["condition"] for row in card["sensitivity"]} == {"image", "blank"}
    assert all(t["wordings"] == 5 for row in card["sensitivity"] for t in row["tasks"])
    f1 = next(
        t for b in card["benchmarks"] if b["name"] == "pope_adversarial" for t in b["metrics"] if t["metric"] == "f1"
    )
    assert f1["scores"][0]["mean"] == pytest.approx(results(tmp_path / "out")["results"]["pope_adversarial"]["f1,none"])
    assert summary["metrics"]["f1/pope_adversarial/base/image"] == pytest.approx(f1["scores"][0]["mean"])
    for name, value in (("scorecard", card), ("verdict", verdict)):
        pytest.importorskip("jsonschema").validate(value, json_schema(name))
    html = (tmp_path / "out" / "scorecard.html").read_text()
    assert "2 of 3" in html and "cluster trained: vqav2-train is of the cluster" in html


def test_a_task_file_that_says_too_little_is_refused(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "eval" / "tasks" / "gqa" / "gqa.yaml"
    path.write_text(re.sub(r"    (counted|licence): .*\n", "", path.read_text()))
    (tmp_path / "eval" / "suites" / "one.yaml").write_text("tasks: [gqa]\n")
    with pytest.raises(VistuneError, match=r"the file of task gqa does not say counted, licence under metadata\.about"):
        run(suite="one")


def test_a_suite_that_names_a_task_twice_is_refused(run: Any, tmp_path: Path) -> None:
    (tmp_path / "eval" / "suites" / "twice.yaml").write_text("tasks: [chartqa, chartqa_human]\n")
    with pytest.raises(VistuneError, match=r"suite twice: Duplicate task 'chartqa_human': found in both"):
        run(suite="twice")


def test_a_suite_that_needs_a_judge_is_refused_without_one(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VistuneError, match=r"mm_vet needs a judge: set evaluate\.judge\.model"):
        run(suite="judged", conditions=Conditions(("image",), ()))
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(VistuneError, match=r"evaluate\.judge needs a key: the environment variable JUDGE_KEY"):
        run(suite="judged", judge=Judge(model="m", api_key_env="JUDGE_KEY"))


def test_a_judged_suite(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "eval" / "suites" / "vet.yaml").write_text("tasks: [mm_vet, hallusionbench_judged]\n")
    for path in (tmp_path / "eval" / "tasks").glob("*/*.yaml"):
        path.write_text(re.sub(r"max_gen_toks: \d+", "max_gen_toks: 4", path.read_text()))
    said = {"mm_vet": ["0.5", "maybe"], "hallusionbench": ["incorrect", "incorrect"]}
    monkeypatch.setenv("JUDGE_KEY", "planted")
    monkeypatch.setattr(judge.Session, "replies", lambda self, cases: [said[one.protocol] for one in cases])
    asked = Judge(model="m", api_key_env="JUDGE_KEY", votes=2)
    run(suite="vet", conditions=Conditions(("image",), ()), judge=asked)
    found = results(tmp_path / "out")
    assert found["judge"] == {"model": "m", "versions": [], "votes": 2}
    vet = found["results"]["mm_vet"]
    assert (vet["score,none"], vet["parse_failures,none"]) == (0.5, 0.5)
    assert vet["spread,none"] is None, "no answer has two readable votes"
    assert found["results"]["hallusionbench_judged"]["aAcc,none"] == 0.0
    answers = read_answers(tmp_path / "out" / "answers.jsonl")
    assert {a.metrics["accuracy"] for a in answers if a.benchmark == "mm_vet"} == {0.5}
    card = json.loads((tmp_path / "out" / "scorecard.json").read_text())
    assert card["judge"] == found["judge"]
    assert "Judge: m, 2 votes on each answer." in (tmp_path / "out" / "scorecard.html").read_text()
    assert "planted" not in "".join(p.read_text() for p in (tmp_path / "out").rglob("*") if p.is_file())


def test_captions_say_which_metrics_are_not_computed(run: Any, tmp_path: Path) -> None:
    (tmp_path / "eval" / "suites" / "captions.yaml").write_text("tasks: [coco_caption, nocaps, ocrbench]\n")
    for path in (tmp_path / "eval" / "tasks").glob("*/*.yaml"):
        path.write_text(re.sub(r"max_gen_toks: \d+", "max_gen_toks: 3", path.read_text()))
    run(suite="captions", conditions=Conditions(("image",), ()))
    html = (tmp_path / "out" / "scorecard.html").read_text()
    assert html.count("METEOR and SPICE are Java programs: not computed") == 2
    found = results(tmp_path / "out")["results"]
    for name in ("coco_caption", "nocaps"):
        metrics = {key: value for key, value in found[name].items() if key.endswith(",none")}
        assert not any("meteor" in key or "spice" in key for key in metrics)
        assert all(isinstance(value, float) for value in metrics.values()), "no empty metric"
    # OCRBench is a sum: so is its standard error.
    rights = [a.metrics["accuracy"] for a in read_answers(tmp_path / "out" / "answers.jsonl") if "ocr" in a.benchmark]
    assert found["ocrbench"]["final_score,none"] == sum(rights)
    of_mean = found["ocrbench"]["accuracy_stderr,none"]
    assert found["ocrbench"]["final_score_stderr,none"] == pytest.approx(len(rights) * of_mean)


def test_without_data(run: Any) -> None:
    with pytest.raises(VistuneError, match=r"set evaluate\.data to the folder that holds gqa/"):
        run(suite="quick", data="")


@pytest.mark.slow
def test_the_page_shows_every_published_benchmark(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All suites that need no judge, and one judged benchmark: each task with its interval or why it has none, its
    categories, whether training saw what it shows, the gallery, yes and no, lengths."""
    suites = [yaml.safe_load(p.read_text()).get("tasks", []) for p in (tmp_path / "eval" / "suites").glob("*.yaml")]
    told = {
        name for names in suites for name in names if not re.match("demo|wording|gavie|llava_bench|hallus.*ed", name)
    }
    told -= {"chartqa_human", "pope_adversarial"}  # which their groups hold
    asked = sorted(told | {"coco_caption", "nocaps", "mmmu_val", "okvqa", "aokvqa_ranked", "seed_image_ranked"})
    (tmp_path / "eval" / "suites" / "every.yaml").write_text(yaml.safe_dump({"tasks": asked}))
    for path in (tmp_path / "eval" / "tasks").glob("*/*.yaml"):
        path.write_text(re.sub(r"max_gen_toks: \d+", "max_gen_toks: 3", path.read_text()))
    monkeypatch.setenv("JUDGE_KEY", "planted")
    monkeypatch.setattr(judge.Session, "replies", lambda self, cases: [["0.5", "1.0"] for _ in cases])
    conditions = Conditions(("image",), ("image", "blank", "none"))
    run(suite="every", conditions=conditions, judge=Judge(model="m", api_key_env="JUDGE_KEY", votes=2))
    card = json.loads((tmp_path / "out" / "scorecard.json").read_text())
    html = (tmp_path / "out" / "scorecard.html").read_text()
    rows = re.findall(r"<tr[^>]*><td>(\w+)</td>(.*?)</tr>", html, re.S)
    names = {entry["name"] for entry in card["benchmarks"]}
    assert len(names) > 30 and names == {name for name, _ in rows} & names
    lines = re.findall(r'<text x="12"[^>]*>(\w+)</text>', html)
    assert {entry["name"] for entry in card["benchmarks"] if entry["scores"]} == set(lines), "each score has its line"
    for entry in card["benchmarks"]:
        images = {row["images"] for table in entry["metrics"] for row in table["scores"]}
        for table in entry["metrics"]:
            for row in table["scores"]:
                known = row["images"] > 1 and row["mean"] is not None  # no mention: CHAIRi is not a number
                assert (row["low"] is not None and row["high"] is not None) == known, entry["name"]
        cells = " ".join(text for name, text in rows if name == entry["name"])
        assert "[" in cells or images <= {1}, f"{entry['name']} has no interval on the page"
    by = {entry["name"]: entry for entry in card["benchmarks"]}
    for name in ("mme", "mmbench_en_dev", "scienceqa_img", "seed_image"):
        assert f"<h2>{name} by category</h2>" in html or len(by[name]["categories"]) < 2
    assert any(entry["categories"] for entry in card["benchmarks"])
    assert html.count("unseen: no data set of") == len(names)
    for heading in (
        "Held out?",
        "Does it say yes too often?",
        "Words of free answers",
        "What the tuned model gets wrong",
    ):
        assert f"<h2>{heading}</h2>" in html
    assert html.count("<circle") > 2 * len(names) and html.count('class="card"') >= 12
    assert 'alt="benchmark image"' in html and "the benchmark&#39;s scorer gives" in html
