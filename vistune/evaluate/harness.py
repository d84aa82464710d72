"""lm-eval: loads the tasks of a suite, runs them on one of our models, and hands back each answer."""

from __future__ import annotations

import contextlib
import logging
import math
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vistune.answers import Answer
from vistune.errors import VistuneError
from vistune.evaluate import aggregates, judge
from vistune.evaluate.judge import Case
from vistune.evaluate.lm import VistuneLM
from vistune.evaluate.scorecard import UNKNOWN
from vistune.evaluate.tasks import best
from vistune.params import parse, read_tree
from vistune.records import ImageRef

PLACES = ("sources", "data", "config_source")
"""Settings of a task that name folders of this machine."""


@dataclass(frozen=True)
class Suite:
    """A file in eval/suites: lm-eval tasks and groups to run, and how the scorecard groups their benchmarks."""

    tasks: tuple[str, ...] = ()
    every_benchmark: bool = False  # one multiple-choice task for each benchmark of the sources


@dataclass(frozen=True)
class Loaded:
    """A suite's lm-eval tasks, built once and run for every model and condition."""

    tasks: dict[str, Any]
    task_dict: dict[str, Any]  # as TaskManager.load returns it
    groups: dict[str, list[str]]  # title -> benchmarks of its multiple-choice tasks


def load_suite(folder: Path, name: str, metadata: Mapping[str, Any], benchmarks: list[str]) -> Loaded:
    """Builds the tasks of eval/suites/<name>.yaml. `metadata` becomes arguments of the tasks' `docs` function."""
    from lm_eval.tasks import TaskManager

    path = folder / "suites" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise VistuneError(f"there is no evaluation suite {name!r} ({path}). Known suites: {known or 'none'}.")
    suite = parse(Suite, read_tree(path.read_text(encoding="utf-8"), str(path)), name)
    wanted = [*suite.tasks, *(benchmarks if suite.every_benchmark else [])]
    if not wanted:
        raise VistuneError(f"suite {name} has nothing to run: it names no tasks, or the sources hold no benchmark.")
    with _quiet(), tempfile.TemporaryDirectory() as made:
        if suite.every_benchmark:
            for benchmark in benchmarks:
                _write_task(Path(made), folder / "tasks" / "_multiple_choice_yaml", benchmark)
        paths: list[str | Path] = [made] if suite.every_benchmark else [folder / "tasks"]
        manager = TaskManager(include_path=paths, include_defaults=False, metadata=dict(metadata))
        unknown = [t for t in wanted if t not in manager.all_tasks]
        if unknown:
            raise VistuneError(f"suite {name} names {unknown[0]!r}; eval/tasks has {', '.join(manager.all_tasks)}.")
        try:
            loaded: Any = manager.load(wanted)
        except ValueError as error:
            if "Duplicate task" not in str(error):
                raise
            raise VistuneError(f"suite {name}: {error}. Name one of the two.") from None
    for name, task in loaded["tasks"].items():
        if (task.config.metadata or {}).get("judged"):
            judge.session(name)
    groups: dict[str, list[str]] = {}
    for group, members in loaded["group_map"].items():
        title = loaded["groups"][group].alias or group
        tasks = [loaded["tasks"][m] for m in members]
        names = [task.eval_docs[0]["benchmark"] for task in tasks if _ranks(task) or is_published(task)]
        if names:
            groups[title] = names
    return Loaded(loaded["tasks"], loaded, groups)


def pools(loaded: Loaded, own: bool = False) -> dict[str, list[ImageRef]]:
    """The images of the suite that may stand in for one another: same concepts, same folder. own: only those of the
    sources."""
    found: dict[str, dict[str, ImageRef]] = defaultdict(dict)
    for task in loaded.tasks.values():
        if own and is_published(task):
            continue
        for doc in task.eval_docs:
            for image in images_of(doc):
                found[doc["pool"]][image["sha256"]] = ImageRef(**image)
    return {pool: [images[sha] for sha in sorted(images)] for pool, images in sorted(found.items())}


def run(loaded: Loaded, lm: VistuneLM, max_new_tokens: int) -> dict[str, Any]:
    """lm-eval's results without samples, clock and machine; the answers stay in the tasks for `collect`.

    `lm_eval.evaluate` is called rather than `simple_evaluate`: the latter also seeds the global generators and
    records date, git revision and pip's package list, seconds a call, which the run records once by itself.
    """
    from lm_eval import evaluate

    for task in loaded.tasks.values():
        if task.OUTPUT_TYPE == "generate_until" and "max_gen_toks" not in (task.config.generation_kwargs or {}):
            task.set_config("generation_kwargs", {"max_gen_toks": max_new_tokens}, update=True)
    lm.versions = {name: task.VERSION for name, task in loaded.tasks.items()}
    with _quiet():
        results = evaluate(lm=lm, task_dict=loaded.task_dict, bootstrap_iters=0, log_samples=False)
    for table in ("results", "groups"):  # JSON has no NaN: null where a metric is not defined, "N/A" for its error
        for name, row in results.get(table, {}).items():
            numbers = [key for key, v in row.items() if isinstance(v, float) and not math.isfinite(v)]
            results[table][name] = row | {key: UNKNOWN if "_stderr" in key else None for key in numbers}
    if asked := judge.about():
        results["judge"] = asked
    results["configs"] = {name: _portable(config) for name, config in results["configs"].items()}
    return results


def collect(loaded: Loaded, model: str, condition: str) -> list[Answer]:
    """The answers of the last `run`."""
    answers = []
    for task in loaded.tasks.values():
        by_doc: dict[int, list[Any]] = defaultdict(list)
        for instance in task.instances:
            by_doc[instance.doc_id].append(instance)
        docs = [instances[0].doc for instances in by_doc.values()]
        said = [[i.resps[0] for i in sorted(instances, key=lambda i: i.idx)] for instances in by_doc.values()]
        valued = [task.process_results(doc, given) for doc, given in zip(docs, said, strict=True)]
        terms = aggregates.of_items(task.aggregation(), valued)
        if first := _judged_first(task, valued[0]):  # an answer whose votes cannot be read has none, and stays an item
            terms = [{"accuracy": one[first], **one} for one in terms]
        clusters = aggregates.clusters(docs, images_of)
        for doc, given, values, parts, cluster in zip(docs, said, valued, terms, clusters, strict=True):
            if _ranks(task):
                means = [r.mean for r in given]
                kind, text = "choice", doc["choices"][best(means)]
                scores = {c: round(m, 6) for c, m in zip(doc["choices"], means, strict=True)}
                metrics = {
                    "accuracy": values["acc"],
                    "accuracy_sum": values["acc_sum"],
                    "greedy": values["greedy"],
                }
            else:
                kind, text, scores = "generation", given[0], {}
                metrics = {n: v for n, v in _of_one(task, values).items() if n not in parts or n == "accuracy"}
            images = images_of(doc)
            answers.append(
                Answer(
                    item=doc["id"],
                    benchmark=doc["benchmark"],
                    task=doc["task"],
                    concepts=doc["concepts"],
                    image=images[0]["sha256"] if images else "",
                    path=images[0]["path"] if images else "",
                    question=doc["question"],
                    gold=doc["answer"],
                    model=model,
                    condition=condition,
                    kind=kind,
                    answer=text,
                    metrics=metrics,
                    scores=scores,
                    cluster=cluster,
                    terms=parts,
                )
            )
    return answers


def is_published(task: Any) -> bool:
    """Whether a task is one of the published benchmarks, not of the sources'."""
    return "about" in (task.config.metadata or {})


def _of_one(task: Any, values: Mapping[str, Any]) -> dict[str, float]:
    """The metrics that one document has by itself: not F1, nor what else is only defined over many. `accuracy` is the
    first of those where more is better, whatever its benchmark calls it (ANLS, ROUGE-L, a judge's score)."""
    found, better = {}, task.higher_is_better()
    for name, value in values.items():
        if isinstance(value, Case):
            value = task.aggregation()[name]([value])
        if isinstance(value, float) and math.isfinite(value):
            found[name] = value
    first = next((name for name in found if better.get(name)), "")
    if first and is_published(task):
        found.setdefault("accuracy", found[first])
    return found


def _judged_first(task: Any, values: Mapping[str, Any]) -> str:
    """The metric of a judged benchmark that stands for it; "" for other tasks."""
    better = task.higher_is_better()
    return next((name for name, value in values.items() if isinstance(value, Case) and better.get(name)), "")


def images_of(doc: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The references of the images that a document shows, in order."""
    return doc["images"] if "images" in doc else [doc["image"]]


def _write_task(folder: Path, template: Path, benchmark: str) -> None:
    """A task file for a benchmark that has none, as in eval/tasks/demo."""
    task = {"include": str(template.resolve()), "task": benchmark, "dataset_kwargs": {"benchmark": benchmark}}
    (folder / f"{benchmark}.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")


def _ranks(task: Any) -> bool:
    return task.OUTPUT_TYPE == "multiple_choice"


def _portable(config: dict[str, Any]) -> dict[str, Any]:
    """A task's configuration without the paths of this machine."""
    metadata = {k: v for k, v in (config.get("metadata") or {}).items() if k not in PLACES}
    return {**config, "metadata": metadata}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """lm-eval draws a bar and logs a few lines per task, for every model and condition; our own display replaces it."""
    import lm_eval.api.task as module

    logger = logging.getLogger("lm_eval")
    level, bar = logger.level, module.tqdm
    logger.setLevel(logging.ERROR)
    module.tqdm = lambda items, **_: items
    try:
        yield
    finally:
        logger.setLevel(level)
        module.tqdm = bar
