"""The whole stage through lm-eval on tiny random models, with the demo's own suite and task files."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from vistune import evaluate, store
from vistune.answers import read_answers
from vistune.errors import VistuneError
from vistune.evaluate import Conditions, Params, decoding, harness
from vistune.files import files_under, tree_digest
from vistune.records import ImageRef, Lineage, Sample, conversation
from vistune.schema_docs import json_schema
from vistune.sources import load, read_benchmark
from vistune.stages import Context

REPOSITORY = Path(__file__).resolve().parents[2]


def release(folder: Path, sha: str) -> Path:
    image = ImageRef(sha, 8, 8, "png", f"images/{sha}.png")
    text = {
        "instruction": "Name it.",
        "input": "",
        "response": "a cat",
        "messages": conversation([("Name it.", "a cat")]),
    }
    about = {"dataset": "d", "split": "train", "task": "caption", "method": "adapt", "licence": "CC0", "group": "g"}
    store.write_samples(folder, [Sample(id="vt1:a", images=(image,), lineage=Lineage("d/1", (), ()), **text, **about)])
    return folder


@pytest.fixture
def inputs(demo_sources: Path, model_folders: Path, tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "release").mkdir()
    return {"sources": demo_sources, "tune": model_folders, "validate": release(tmp_path / "release", "ab" * 32)}


@pytest.fixture
def run(inputs: dict[str, Path], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def stage(output: str = "out", home: str = "home", root: Path = REPOSITORY, **params: Any) -> dict[str, Any]:
        folder = tmp_path / output
        folder.mkdir(exist_ok=True)
        settings = {"replicates": 100, "generated_images": 2, "max_new_tokens": 3, **params}
        context = Context(seed=1, home=tmp_path / home, root=root)
        return evaluate.run(Params(**settings), inputs, folder, context)

    return stage


@pytest.mark.slow
def test_demo_suite_end_to_end(run: Any, inputs: dict[str, Path], tmp_path: Path, monkeypatch: Any) -> None:
    forwards: list[int] = []
    score = decoding.score
    monkeypatch.setattr(decoding, "score", lambda *args: forwards.append(1) or score(*args))
    summary = run(limit=2)
    output = tmp_path / "out"
    runs = [("base", "image"), ("tuned", "image"), ("tuned", "shuffled"), ("tuned", "none")]

    names = {b.name for b in load(inputs["sources"])[1]}
    answers = read_answers(output / "answers.jsonl")
    assert {a.benchmark for a in answers} == names
    ranked = [a for a in answers if a.kind == "choice"]
    for model, condition in runs:
        one = [a for a in ranked if (a.model, a.condition) == (model, condition)]
        assert len(one) == summary["counts"]["out"] == len({a.item for a in one})
        for a in one:
            assert a.answer == max(a.scores, key=a.scores.__getitem__)
            assert a.metrics["accuracy"] == float(a.answer == a.gold)
    counts = summary["counts"]
    total = sum(len(read_benchmark(inputs["sources"], b)) for b in load(inputs["sources"])[1])
    assert counts["in"] == total == counts["out"] + counts["rejected"]["beyond_limit"]

    # lm-eval's own results say the same, and hold nothing of this machine or this moment.
    for model, condition in runs:
        text = (output / "lm_eval" / f"{model}-{condition}.json").read_text()
        results = json.loads(text)
        assert str(inputs["sources"]) not in text and "date" not in results
        for name in names:
            mine = [
                a.metrics["accuracy"] for a in ranked if (a.benchmark, a.model, a.condition) == (name, model, condition)
            ]
            assert results["results"][name]["acc,none"] == pytest.approx(sum(mine) / len(mine))
            pictures = {a.image for a in ranked if a.benchmark == name}
            error = results["results"][name]["acc_stderr,none"]
            assert 0 <= error <= 1 if len(pictures) > 1 else error == "N/A"
            assert summary["metrics"][f"accuracy/{name}/{model}/{condition}"] == pytest.approx(sum(mine) / len(mine))
        assert set(results["groups"]) >= {"demo_new_layouts", "demo_which_of_two"}

    verdict = json.loads((output / "verdict.json").read_text())
    assert verdict["verdict"] in ("fail", "inconclusive"), "four images cannot promote a random model"
    card = json.loads((output / "scorecard.json").read_text())
    assert [len(g["benchmarks"]) for g in card["groups"]] == [4, 4, 4, 3, 1]
    for name, value in (("scorecard", card), ("verdict", verdict)):
        pytest.importorskip("jsonschema").validate(value, json_schema(name))
    html = (output / "scorecard.html").read_text()
    assert "http" not in html.replace("http-equiv", "") and "data:image/jpeg;base64," in html
    pairs = summary["details"]["side_by_side"]
    assert pairs and all(p["question"] and (inputs["sources"] / p["path"]).is_file() for p in pairs)

    # The same inputs again: from the log, without a forward pass; and from nothing: equal to the byte.
    first = len(forwards)
    assert first > 0
    run("again", limit=2)
    assert len(forwards) == first
    run("fresh", home="elsewhere", limit=2)
    assert len(forwards) == 2 * first
    assert tree_digest(output) == tree_digest(tmp_path / "again") == tree_digest(tmp_path / "fresh")


def test_crash_between_models_is_resumed_to_equal_bytes(run: Any, tmp_path: Path, monkeypatch: Any) -> None:
    conditions = Conditions(("image",), ("image",))
    real, calls = harness.run, 0

    def dies(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(harness, "run", dies)
    with pytest.raises(KeyboardInterrupt):
        run(limit=1, conditions=conditions, suite="all", gate="all")
    monkeypatch.setattr(harness, "run", real)
    score, seen = decoding.score, []
    monkeypatch.setattr(decoding, "score", lambda t, *rest: seen.append(t.model.name_or_path) or score(t, *rest))
    resumed = run(limit=1, conditions=conditions, suite="all", gate="all")
    assert {Path(name).name for name in seen} == {"model"}, "the base model had answered before the crash"
    fresh = run("fresh", home="elsewhere", limit=1, conditions=conditions, suite="all", gate="all")
    assert fresh == resumed
    assert tree_digest(tmp_path / "out") == tree_digest(tmp_path / "fresh")
    verdict = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert verdict["verdict"] == "fail" and any("'shuffled'" in reason for reason in verdict["reasons"])


def test_a_benchmark_image_in_the_release_is_a_leak(run: Any, inputs: dict[str, Path]) -> None:
    leaked = read_benchmark(inputs["sources"], load(inputs["sources"])[1][0])[0].image.sha256
    release(inputs["validate"], leaked)
    with pytest.raises(VistuneError, match=f"leak: 1 of .* first {leaked[:12]}.*sample vt1:a"):
        run()


def test_wrong_settings_are_told(run: Any, inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(VistuneError, match=r"no evaluation suite 'dem'.*Known suites: all, demo"):
        run(suite="dem")
    with pytest.raises(VistuneError, match=r"no gate 'x'.*Known gates: all, demo"):
        run(gate="x")
    with pytest.raises(VistuneError, match=r"evaluate.limit is 0"):
        run(limit=0)
    with pytest.raises(VistuneError, match="shuffled baseline needs at least 2 different images"):
        run(limit=1, suite="all", gate="all")
    inputs["sources"] = Path(shutil.copytree(inputs["sources"], tmp_path / "sources"))
    listed = json.loads((inputs["sources"] / "sources.json").read_text())
    listed["benchmarks"] = [b for b in listed["benchmarks"] if b["name"] != "counting_unseen"]
    (inputs["sources"] / "sources.json").write_text(json.dumps(listed))
    with pytest.raises(VistuneError, match=r"needs the benchmark 'counting_unseen'; the sources hold .*'all'"):
        run()


def test_suite_naming_an_unknown_task(run: Any, tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "eval", tmp_path / "repo" / "eval")
    (tmp_path / "repo" / "eval" / "suites" / "mine.yaml").write_text("tasks: [presence_traind]\n")
    with pytest.raises(VistuneError, match=r"suite mine names 'presence_traind'; eval/tasks has .*presence_trained"):
        run(suite="mine", root=tmp_path / "repo")
    (tmp_path / "repo" / "eval" / "suites" / "mine.yaml").write_text("task: [presence_trained]\n")
    with pytest.raises(VistuneError, match=r"did you mean mine.tasks"):
        run(suite="mine", root=tmp_path / "repo")


def test_limit_keeps_the_same_images_in_all_benchmarks(demo_sources: Path) -> None:
    from vistune.evaluate.tasks import docs

    kept = [
        {d["image"]["sha256"] for d in docs(name, str(demo_sources), seed=5, limit=2)["test"]}
        for name in ("presence_trained", "counting_trained", "colour_trained")
    ]
    assert kept[0] == kept[1] == kept[2] and len(kept[0]) == 2
    assert len(docs("presence_trained", str(demo_sources), seed=5)["test"]) > len(kept[0])


def test_every_task_file_is_in_the_suite_and_names_an_existing_benchmark(demo_sources: Path) -> None:
    folder = REPOSITORY / "eval" / "tasks" / "demo"
    names = {b.name for b in load(demo_sources)[1]}
    groups, tasks = {}, set()
    for path in files_under(folder):
        tree = yaml.load(path.read_text(), Loader=yaml.BaseLoader)
        if "group" in tree:
            groups[tree["group"]] = tree["task"]
        else:
            assert tree["dataset_kwargs"]["benchmark"] in names
            assert path.stem == tree["task"]
            tasks.add(tree["task"])
    suite = yaml.safe_load((REPOSITORY / "eval" / "suites" / "demo.yaml").read_text())["tasks"]
    run = {t for name in suite for t in groups.get(name, [name])}
    assert run == tasks
