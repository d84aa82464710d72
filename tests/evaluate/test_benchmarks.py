"""Every published benchmark read from a tiny copy of its files, through its task file, and scored."""

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from published import picture

from vistune.errors import VistuneError
from vistune.evaluate import Params, fingerprint
from vistune.evaluate.benchmarks.documents import Home
from vistune.evaluate.declared import TOLD
from vistune.evaluate.harness import images_of, load_suite
from vistune.evaluate.lm import LogLikelihood

EVAL = Path(__file__).resolve().parents[2] / "eval"
SHORT = "Answer the question using a single word or phrase."
OPTION = "Answer with the option's letter from the given choices directly."


def load(data: Path, *tasks: str, folder: Path | None = None, **settings: Any) -> dict[str, Any]:
    """The lm-eval tasks by name."""
    from lm_eval.tasks import TaskManager

    metadata = {"data": str(data), "seed": 0, "limit": None, **settings}
    manager = TaskManager(include_path=[folder or EVAL / "tasks"], include_defaults=False, metadata=metadata)
    return manager.load(list(tasks))["tasks"]


# task -> the right answer to a document, the metric that tells, and how many documents the copy has
LETTER = lambda doc: chr(ord("A") + doc["gold"])  # noqa: E731
GOLD = lambda doc: doc["answer"]  # noqa: E731
TASKS: dict[str, tuple[Any, str, int]] = {
    "vqav2": (GOLD, "accuracy", 3),
    "okvqa": (GOLD, "accuracy", 3),
    "gqa": (GOLD, "accuracy", 3),
    "vizwiz": (GOLD, "accuracy", 2),
    "textvqa": (GOLD, "accuracy", 2),
    "textvqa_ocr": (GOLD, "accuracy", 2),
    "scienceqa_img": (LETTER, "accuracy", 2),
    "aokvqa_choices": (LETTER, "accuracy", 2),
    "aokvqa_direct": (GOLD, "accuracy", 2),
    "pope_random": (GOLD, "f1", 4),
    "pope_popular": (GOLD, "f1", 4),
    "pope_adversarial": (GOLD, "f1", 4),
    "mme": (GOLD, "perception", 28),
    "mmbench_en_dev": (LETTER, "circular", 5),
    "mmbench_cn_dev": (LETTER, "circular", 2),
    "seed_image": (LETTER, "accuracy", 2),
    "mmmu_val": (lambda doc: LETTER(doc) if doc["choices"] else "24,500", "accuracy", 2),
    "chartqa_human": (lambda doc: "14.5", "accuracy", 1),
    "chartqa_augmented": (GOLD, "accuracy", 1),
    "docvqa": (lambda doc: "itc  limited", "anls", 1),
    "infovqa": (GOLD, "anls", 1),
    "ocrbench": (lambda doc: f"It says {doc['answer']}.", "final_score", 2),
    "coco_caption": (GOLD, "cider", 2),
    "nocaps": (GOLD, "cider", 2),
    "refcoco_testa": (lambda doc: "[0.0, 0.12, 0.5, 0.88]", "accuracy", 1),
    "refcoco_plus_val": (lambda doc: "[0.0, 0.12, 0.5, 0.88]", "accuracy", 1),
    "refcocog_test": (lambda doc: "[0.0, 0.12, 0.5, 0.88]", "accuracy", 1),
    "hallusionbench": (GOLD, "qAcc", 3),
    "chair": (lambda doc: "a person" if "person" in doc["objects"] else "a dog", "recall", 2),
}
BEST = {"perception": 2000.0, "final_score": 2.0, "recall": 2 / 3}
WORST = {f"pope_{setting}": 2 / 3 for setting in ("random", "popular", "adversarial")}  # nonsense is a "yes"


@pytest.fixture(scope="module")
def tasks(data: Path) -> dict[str, Any]:
    return load(data, *TASKS, "seed_image_ranked", "aokvqa_ranked")


def total(task: Any, answer: Any, metric: str) -> float:
    values = [task.process_results(doc, [answer(doc)])[metric] for doc in task.eval_docs]
    return task.aggregation()[metric](values)


@pytest.mark.parametrize("name", TASKS)
def test_right_answers_score_best_and_wrong_ones_worst(tasks: dict[str, Any], data: Path, name: str) -> None:
    task, (right, metric, count) = tasks[name], TASKS[name]
    docs = task.eval_docs
    assert len(docs) == docs.total == count and len({doc["id"] for doc in docs}) == count
    for doc in docs:
        for image in task.doc_to_image(doc):
            assert (data / image["path"]).is_file() and image["width"] == 40
        assert task.doc_to_target(doc) == doc["answer"]
    found = total(task, right, metric)
    if metric == "cider":
        assert 3 < found <= 10
    else:
        assert found == pytest.approx(BEST.get(metric, 1.0))
    if name != "mmmu_val":  # a choice is drawn for what it cannot read
        assert total(task, lambda doc: "qwerty", metric) == pytest.approx(WORST.get(name, 0.0))
    declared = {entry["metric"] for entry in task.config.metric_list}
    assert set(task.process_results(docs[0], ["x"])) == declared


def test_prompts(tasks: dict[str, Any]) -> None:
    def asked(name: str, number: int = 0) -> str:
        return tasks[name].doc_to_text(tasks[name].eval_docs[number])

    assert asked("gqa") == f"Is it red?\n{SHORT}"
    assert asked("textvqa_ocr") == f"brand?\nReference OCR token: NIKE, just\n{SHORT}"
    assert asked("mme") == f"Is it red?\n{SHORT}"
    assert asked("scienceqa_img") == f"Context: Look.\nWhich?\nA. cat\nB. dog\n{OPTION}"
    assert asked("scienceqa_img", 1) == f"And?\nA. a\nB. b\nC. c\n{OPTION}"
    assert asked("mmbench_en_dev", 1) == f"Look\nWhat is it?\nA. cow\nB. cat\nC. dog\n{OPTION}"
    assert asked("vizwiz").startswith("What is this?\nWhen the provided information is insufficient")
    assert asked("mmmu_val") == f"<image 2> What is it?\n\n(A) a cat\n(B) <image 1>\n\n{OPTION}"
    assert asked("mmmu_val", 1).endswith(SHORT)


def test_ranked_choices(tasks: dict[str, Any]) -> None:
    for name in ("seed_image_ranked", "aokvqa_ranked"):
        for doc in tasks[name].eval_docs:
            best = [LogLikelihood(-1.0 if n == doc["gold"] else -2.0, False, 1) for n in range(4)]
            assert tasks[name].process_results(doc, best)["acc"] == 1.0
            assert tasks[name].doc_to_choice(doc) == doc["choices"] and len(doc["choices"]) == 4


def test_circular_needs_every_rotation(tasks: dict[str, Any]) -> None:
    task = tasks["mmbench_en_dev"]
    docs = task.eval_docs
    assert [(d["group"], d["rotation"], LETTER(d)) for d in docs] == [
        ("0", 0, "B"),
        ("0", 1, "C"),
        ("0", 2, "A"),
        ("5", 0, "A"),
        ("5", 1, "B"),
    ]
    assert all(doc["choices"][doc["gold"]] == doc["answer"] for doc in docs)
    assert total(task, lambda doc: "B", "circular") == 0.0
    assert total(task, lambda doc: "B", "vanilla") == 0.5
    assert total(task, lambda doc: doc["answer"], "circular") == 1.0
    # In the file of published rotations the second row is the first one turned.
    assert [(d["group"], d["rotation"]) for d in tasks["mmbench_cn_dev"].eval_docs] == [("0", 0), ("0", 1)]


def test_what_judges_are_shown(data: Path) -> None:
    found = load(data, "mm_vet", "llava_bench", "gavie", "gavie_original", "hallusionbench_judged")

    def shown(name: str, number: int = 0) -> str:
        task = found[name]
        values = task.process_results(task.eval_docs[number], ["a dog"])
        assert set(values) == {entry["metric"] for entry in task.config.metric_list}
        (case,) = {id(value): value for value in values.values()}.values()
        return case.messages[-1]["content"]

    assert shown("mm_vet").endswith("What is x? | -1 <AND> -5 | a dog | ")
    assert found["mm_vet"].eval_docs[0]["task"] == "math_ocr" and len(found["mm_vet"].eval_docs) == 2
    assert "[Context]\nA street.\n" in shown("llava_bench", 1) and "[Assistant 1]\nIt is a street." in shown(
        "llava_bench"
    )
    assert "a tree X:1 Y:2 Width:30 Height:40\n" in shown("gavie"), "the true height"
    assert "a tree X:1 Y:2 Width:30 Height:30\n" in shown("gavie_original"), "the slip of the authors' script"
    assert "Reference answer: It is.\nPrediction answer:a dog\nOutput:" in shown("hallusionbench_judged")


def test_images_of_several_kinds(tasks: dict[str, Any]) -> None:
    hallusion = tasks["hallusionbench"].eval_docs
    assert [len(images_of(doc)) for doc in hallusion] == [0, 1, 1]
    mmmu = tasks["mmmu_val"].eval_docs
    assert [len(images_of(doc)) for doc in mmmu] == [2, 1]
    assert images_of(mmmu[0])[1] == images_of(mmmu[1])[0], "picture 1 is shown second in the first question"


def test_a_limit_counts_pictures_and_keeps_them_whole(data: Path) -> None:
    mme = load(data, "mme", limit=3)["mme"].eval_docs
    assert len(mme) == 6 and mme.total == 28
    again = load(data, "mme", limit=3)["mme"].eval_docs
    assert [d["id"] for d in mme] == [d["id"] for d in again]
    other = load(data, "mme", limit=3, seed=1)["mme"].eval_docs
    assert [d["id"] for d in mme] != [d["id"] for d in other]
    bench = load(data, "mmbench_en_dev", limit=1)["mmbench_en_dev"].eval_docs
    assert len({d["group"] for d in bench}) == 1 and len(bench) in (2, 3)


def test_the_fingerprint_follows_the_files_not_what_was_taken_out_of_them(data: Path, tmp_path: Path) -> None:
    root = broken(data, tmp_path, "mmbench")
    shutil.rmtree(root / "mmbench" / "extracted", ignore_errors=True)
    before = fingerprint(Params(data=str(root)))
    load(root, "mmbench_en_dev")
    assert (root / "mmbench" / "extracted").is_dir() and fingerprint(Params(data=str(root))) == before
    with (root / "mmbench" / "mmbench_dev_20230712.tsv").open("a") as file:
        file.write("\n")
    assert fingerprint(Params(data=str(root))) != before and fingerprint(Params()) == ""


def test_chair_knows_categories_and_what_captions_name(tasks: dict[str, Any]) -> None:
    docs = tasks["chair"].eval_docs
    assert [doc["objects"] for doc in docs] == [["horse", "person"], ["dog"]]
    task = tasks["chair"]
    assert total(task, lambda doc: "a person with a kite", "chair_i") == pytest.approx(3 / 4)
    assert math.isnan(total(task, lambda doc: "nothing", "chair_i"))


def broken(data: Path, tmp_path: Path, folder: str) -> Path:
    shutil.copytree(data / folder, tmp_path / folder)
    return tmp_path


def test_what_is_missing_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(VistuneError, match=r"set evaluate.data to the folder that holds gqa/"):
        Home("gqa")
    with pytest.raises(VistuneError, match=r"gqa does not exist. Lay the files"):
        load(tmp_path, "gqa")
    root = broken(data, tmp_path, "gqa")
    (root / "gqa/images/n2.jpg").unlink()
    with pytest.raises(VistuneError, match=r"gqa/images/n2.jpg is missing"):
        load(root, "gqa")
    (root / "gqa/testdev_balanced_questions.json").unlink()
    with pytest.raises(VistuneError, match=r"testdev_balanced_questions.json is missing"):
        load(root, "gqa")


@pytest.mark.parametrize(
    ("folder", "task", "file", "change", "message"),
    [
        (
            "pope",
            "pope_random",
            "coco_pope_random.json",
            lambda t: t.replace('"yes"', '"maybe"'),
            "row 0: label is 'maybe'",
        ),
        (
            "seed",
            "seed_image",
            "SEED-Bench.json",
            lambda t: t.replace('"D"', '"E"'),
            "row 1: the answer 'E' is none of",
        ),
        ("vizwiz", "vizwiz", "val.json", lambda t: t.replace('"answers"', '"given"'), "row 0: answers is missing"),
        ("gqa", "gqa", "testdev_balanced_questions.json", lambda t: t.replace('"answer": "no", ', ""), "1 bad rows"),
        (
            "mmbench",
            "mmbench_en_dev",
            "mmbench_dev_20230712.tsv",
            lambda t: t.replace("\t0\ts", "\t9\ts"),
            "picture is that",
        ),
        ("mme", "mme", "OCR/0001.txt", lambda t: t.splitlines()[0], "expected two lines"),
        ("mmbench", "mmbench_en_dev", "mmbench_dev_20230712.tsv", lambda t: "index\t\0\nq", "index is 'q'"),
        (
            "nocaps",
            "nocaps",
            "nocaps_val_4500_captions.json",
            lambda t: t.replace('"id": 1,', '"id": 9,'),
            "no caption",
        ),
        ("refcoco", "refcoco_val", "instances.json", lambda t: t.replace('"id": 5', '"id": 6'), "lacks"),
        ("ocrbench", "ocrbench", "OCRBench.json", lambda t: "[", "not valid JSON"),
        ("hallusionbench", "hallusionbench", "HallusionBench.json", lambda t: t.replace('"VS"', "7"), "category is 7"),
    ],
)
def test_a_bad_row_is_named(
    data: Path, tmp_path: Path, folder: str, task: str, file: str, change: Any, message: str
) -> None:
    root = broken(data, tmp_path, folder)
    path = root / folder / file
    path.write_text(change(path.read_text()))
    with pytest.raises(VistuneError, match=message):
        load(root, task)


def test_a_refs_pickle_cannot_run_code(data: Path, tmp_path: Path) -> None:
    root = broken(data, tmp_path, "refcoco")
    (root / "refcoco/refs(unc).p").write_bytes(b"cos\nsystem\n(S'touch /tmp/planted'\ntR.")
    with pytest.raises(VistuneError, match="refs"):
        load(root, "refcoco_val")


def test_a_benchmark_of_your_own_is_one_folder(tmp_path: Path) -> None:
    """The example of docs/evaluation.md."""
    page = (EVAL.parent / "docs" / "evaluation.md").read_text(encoding="utf-8")
    for name in ("mine.yaml", "mine.py"):
        text = page.split(f"`eval/tasks/mine/{name}`")[1].split("```")[1].split("\n", 1)[1]
        (tmp_path / "tasks" / "mine").mkdir(parents=True, exist_ok=True)
        (tmp_path / "tasks" / "mine" / name).write_text(text, encoding="utf-8")
    for name in ("_benchmark_yaml",):
        shutil.copy(EVAL / "tasks" / name, tmp_path / "tasks" / name)
    rows = [{"id": 1, "image": "1.png", "question": "Which part?", "answer": "valve"}]
    (tmp_path / "data/mine").mkdir(parents=True)
    (tmp_path / "data/mine/questions.json").write_text(json.dumps(rows))
    (tmp_path / "data/mine/1.png").write_bytes(picture(1))
    task = load(tmp_path / "data", "mine", folder=tmp_path / "tasks")["mine"]
    assert (
        total(task, lambda doc: "The valve.", "accuracy") == 1.0 and total(task, lambda doc: "pump", "accuracy") == 0.0
    )


def test_every_task_file_is_tested_and_says_what_it_is() -> None:
    import yaml

    found = set()
    for path in sorted((EVAL / "tasks").glob("*/*.yaml")):
        tree = yaml.load(path.read_text(), Loader=yaml.BaseLoader)
        if path.parent.name == "demo" or "group" in tree:
            continue
        assert tree["task"] == path.stem == tree["dataset_kwargs"]["benchmark"]
        found.add(path.stem)
        about = tree["metadata"]["about"]
        assert tuple(about) == TOLD and int(about["items"]) > 0 and all(about.values())
    assert {name for name in found if name.startswith("refcoco")} == {
        *(f"refcoco{p}_{s}" for p in ("", "_plus") for s in ("val", "testa", "testb")),
        "refcocog_val",
        "refcocog_test",
    }


def test_load_suite_refuses_benchmarks_without_files(tmp_path: Path) -> None:
    settings = {"sources": str(tmp_path), "seed": 0, "limit": None, "data": None}
    with pytest.raises(VistuneError, match=r"set evaluate\.data"):
        load_suite(EVAL, "llava15", settings, [])


def test_reading_leaves_the_limits_of_csv_as_they_were(data: Path) -> None:
    limit = csv.field_size_limit()
    load(data, "mmbench_en_dev")
    assert csv.field_size_limit() == limit
