"""What the Kubeflow UI shows: the numbers that MLflow has, a confusion matrix that the scorecard bears out, pages."""

import json
import re
from pathlib import Path

from kfp import dsl

from vistune import component, shown
from vistune.answers import Answer, write_answers
from vistune.evaluate.scorecard import _once, _yes_no
from vistune.tracking import runs


def test_the_same_numbers_as_mlflow(fake_stages, mlflow_store, tmp_path):
    output, metrics = dsl.Dataset("data", str(tmp_path / "out")), dsl.Metrics("metrics", str(tmp_path / "m"))
    done = component.step("sources", json.dumps({"seed": 3, "sources": {"rows": 4}}), {}, output, metrics)
    logged = runs.connect().get_run(done.run_id).data.metrics
    assert output.metadata["mlflow_run_id"] == done.run_id, "the way from one to the other"
    found = dict(metrics.metadata)
    assert (found.pop("in"), found.pop("out")) == (logged["counts.in"], logged["counts.out"]) == (5, 4)
    assert found.pop("rejected") == sum(v for k, v in logged.items() if k.startswith("counts.rejected."))
    assert found and {name: logged[name] for name in found} == found


def answer(item, gold, said, kind="choice", **changed):
    given = {"model": "tuned", "condition": "image", **changed}
    return Answer(
        item, "pope", "presence", "", "i", "i.png", "?", gold, kind=kind, answer=said, metrics={}, scores={}, **given
    )


def test_the_confusion_matrix_is_the_scorecards(tmp_path):
    cell = [
        *(answer(f"a{n}", "yes", "yes") for n in range(5)),
        *(answer(f"b{n}", "yes", "no") for n in range(2)),
        *(answer(f"c{n}", "no", "Yes, it is") for n in range(3)),
        *(answer(f"d{n}", "no", "no") for n in range(4)),
        answer("e", "no", "a dog"),
    ]
    besides = [
        answer("a0", "yes", "no", kind="generation"),  # asked a second time, in free text
        answer("a1", "yes", "no", model="base"),
        answer("a1", "yes", "no", condition="shuffled"),
        answer("z", "red", "red"),
    ]
    write_answers(tmp_path / "answers.jsonl", [*cell, *besides])
    found = shown.confusion_of(tmp_path / "answers.jsonl")
    assert found == [[5, 2, 0], [3, 4, 1], [0, 0, 0]]
    share = _yes_no(("tuned", "image"), _once(cell))
    (tp, *_), (fp, *_), _ = found
    assert share["true_yes"] == tp / sum(found[0]) and share["false_yes"] == fp / sum(found[1])
    artefact = dsl.ClassificationMetrics("confusion", str(tmp_path / "confusion"))
    shown.show("confusion", tmp_path, artefact)
    matrix = artefact.metadata["confusionMatrix"]
    assert [a["displayName"] for a in matrix["annotationSpecs"]] == ["yes", "no", "neither"]
    assert [row["row"] for row in matrix["rows"]] == found


def test_without_questions_of_yes_or_no_there_is_no_matrix(tmp_path):
    write_answers(tmp_path / "answers.jsonl", [answer("z", "red", "red")])
    artefact = dsl.ClassificationMetrics("confusion", str(tmp_path / "confusion"))
    shown.show("confusion", tmp_path, artefact)
    assert artefact.metadata == {}


def test_curves(tmp_path):
    rows = [{"stage": "align", "step": n, "loss": 1 / n} for n in range(1, 9)] + [
        {"stage": "<b>", "step": 1, "loss": 2}
    ]
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = dsl.HTML("page", str(tmp_path / "deep" / "page"))
    shown.show("curves", tmp_path, page)
    text = Path(page.path).read_text()
    assert "8 steps · loss 1.000 → 0.125" in text and text.count("<figure>") == 2
    assert "<b><b></b>" not in text and "&lt;b&gt;" in text, "names are no markup"
    assert not re.search(r"(src|href)=.https?:", text), "a page in an artefact store can load nothing"


def test_every_page_that_a_component_names_exists():
    root = Path(__file__).parents[2] / "components"
    text = "".join(path.read_text() for path in root.glob("*/component.py"))
    named = set(re.findall(r'[{ ]"(\w+)": (?:page|confusion|card)\b', text))
    assert named == set(shown.SHOWN)
