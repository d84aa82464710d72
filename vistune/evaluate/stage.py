"""The evaluate stage: every model under every condition, then the scorecard and the verdict."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune import sources, store
from vistune.answers import Answer, Scores, write_answers
from vistune.errors import VistuneError
from vistune.evaluate import contamination, declared, engine, gallery, gate, harness, heldout, judge, page, scorecard
from vistune.evaluate.digests import model_digest
from vistune.evaluate.images import Condition, Pictures, shown
from vistune.evaluate.lm import VistuneLM, fingerprint
from vistune.evaluate.ranks import ALONE, Team
from vistune.evaluate.responses import ResponseLog
from vistune.evaluate.server import ServerEngine
from vistune.files import write_json, write_text
from vistune.models.vlm import load_model
from vistune.records import ImageRef, Reject

if TYPE_CHECKING:
    from vistune.evaluate import Params
    from vistune.stages import Context

FOLDERS = {"base": "base", "tuned": "model"}  # model -> folder in the output of `tune`


def run(
    params: Params, inputs: Mapping[str, Path], output: Path, context: Context, team: Team = ALONE
) -> dict[str, Any]:
    """On several processes the first one calls this, and the others `follow`."""
    check(params)
    with judge.in_session(params.judge, context.home, context.seed):
        return score(params, inputs, output, context, team)


def follow(params: Params, inputs: Mapping[str, Path], context: Context, team: Team) -> None:
    """Answers a share of what the first process asks our models, until it is done."""
    pictures, lm = Pictures(*picture_folders(params, inputs)), None
    while (told := team.tell()) is not None:
        task, about = told
        if task == "open":
            lm = None  # before the next model is loaded
            digest, answering = opened(about, params, Path(inputs["tune"]), pictures, context)
            lm = VistuneLM(answering, pictures, ResponseLog(log_path(context.home, digest)).__enter__(), team=team)
        elif lm is not None:
            asked, kind, lm.label = about
            lm.values(asked, kind)


def score(
    params: Params, inputs: Mapping[str, Path], output: Path, context: Context, team: Team = ALONE
) -> dict[str, Any]:
    root, definitions = Path(inputs["sources"]), context.root / "eval"
    rule = gate.load_gate(definitions, params.gate).among(params.candidates)
    benchmarks = sources.load(root)[1]
    metadata = {"sources": str(root), "data": params.data, "seed": context.seed, "limit": params.limit}
    metadata["generated_images"] = params.generated_images
    loaded = harness.load_suite(definitions, params.suite, metadata, [b.name for b in benchmarks])
    pools, published = harness.pools(loaded), picture_folders(params, inputs)[1:]
    release = Path(inputs["validate"])
    refuse_leaks((i.sha256 for images in harness.pools(loaded, own=True).values() for i in images), release)
    told = declared.described(loaded)
    for notice in declared.notices(told):
        print(f"evaluate: {notice}", flush=True)
    asked_of = published_items(loaded)
    seen = contamination.find(asked_of, store.read_samples(release), release, [*published, root]) if asked_of else {}

    answers: list[Answer] = []
    costs: dict[str, Any] = {}
    models: dict[str, str] = {}
    runs: dict[str, tuple[Condition, ...]] = {k: v for k, v in asdict(params.conditions).items() if v}
    runs |= {name: server.conditions for name, server in params.servers.items()}
    lm = None
    for name, conditions in runs.items():
        lm, pictures = None, Pictures(root, *published)  # the last model goes before the next is loaded
        members = ALONE if name in params.servers else team
        members.tell(("open", name))
        models[name], answering = opened(name, params, Path(inputs["tune"]), pictures, context)
        if answering.note:
            print(f"evaluate: {name} runs on whole sequences, without shared prefixes: {answering.note}", flush=True)
        with ResponseLog(log_path(context.home, models[name])) as log:
            for condition in conditions:
                start = time.monotonic()
                see = shown(condition, pools, context.seed)
                lm = VistuneLM(answering, pictures, log, see, f"{name} · {condition}", team=members)
                results = harness.run(loaded, lm, params.max_new_tokens)
                given = harness.collect(loaded, name, condition)
                results = scorecard.with_errors(results, Scores(given), name, condition)
                write_json(output / "lm_eval" / f"{name}-{condition}.json", results)
                answers += given
                costs[f"{name}/{condition}"] = {k: lm.cost[k] for k in ("questions", "tokens")}
                spent = {"seconds": time.monotonic() - start, "batches_from_log": lm.cost["batches_from_log"]}
                spent |= answering.spent
                context.log({f"{k}/{name}/{condition}": float(v) for k, v in spent.items()}, 0)
        del answering
    team.tell()  # nothing is left to ask

    write_answers(output / "answers.jsonl", answers)
    if seen:
        write_json(output / "contaminated.json", sorted(seen))
    better = declared.directions(loaded)
    scores = Scores(answers, better)
    about = {
        b.name: {"task": b.task, "concepts": b.concepts, "trained_task": b.trained_task, "licence": b.licence}
        for b in benchmarks
    } | told
    counted = contamination.counted(asked_of, seen)
    trained = {sample.dataset for sample in store.read_samples(release)} | set(params.trained_on)
    clusters = heldout.load_table(definitions / "clusters.yaml") if asked_of else None
    for name in counted:
        standing = asdict(heldout.standing(name, trained, clusters)) if clusters else None
        about[name] |= {"standing": standing, "contamination": counted[name]}
    options = (context.seed, params.replicates, params.confidence)
    card = scorecard.build(scores, loaded.groups, about, runs, *options, contaminated=seen)
    card |= {"suite": params.suite, "models": models, "limit": params.limit, "judge": judge.about()}
    unseen = Scores((a for a in answers if a.item not in seen), better)  # what training saw decides nothing
    verdict = gate.decide(rule, unseen, context.seed, params.replicates)
    write_json(output / "scorecard.json", card)
    write_json(output / "verdict.json", {"schema": scorecard.SCHEMA_VERSION, "gate_name": params.gate, **verdict})
    errors = gallery.errors(answers, [root, *published], context.seed, better=better)
    pairs = gallery.side_by_side(answers, context.seed)
    gallery.keep_pictures(answers, [root, *published], output / "pictures", context.seed)
    write_text(output / "scorecard.html", page.render(card, verdict, errors, pairs, [root, *published]))

    asked, beyond = count_items(loaded)
    rejects = [Reject("evaluate", f"{b}", "beyond_limit", "") for b, n in sorted(beyond.items()) for _ in range(n)]
    return {
        "counts": store.counts(asked + len(rejects), asked, rejects),
        "metrics": scorecard.metrics(card, verdict),
        "details": {
            "verdict": verdict["verdict"],
            "reasons": verdict["reasons"],
            "side_by_side": pairs,
            "cost": costs,
            "groups": card["groups"],
        },
    }


def opened(
    name: str, params: Params, tuned: Path, pictures: Pictures, context: Context
) -> tuple[str, engine.Engine | ServerEngine]:
    """What names a model, and what answers for it."""
    if name in params.servers:
        server = ServerEngine(params.servers[name], pictures, f"evaluate.servers.{name}", context.seed)
        return server.fingerprint, server
    folder = tuned / FOLDERS[name]
    digest, model = model_digest(folder, context.home), load_model(folder, params.dtype)
    aside = engine.read_evidence(params.evidence)
    named = fingerprint(digest, model, params.evidence)
    return digest, engine.Engine(model, pictures, named, params.batch_tokens, aside)


def picture_folders(params: Params, inputs: Mapping[str, Path]) -> list[Path]:
    """To which the pictures' paths are relative: the sources', then that of published benchmarks."""
    return [Path(inputs["sources"]), *([Path(params.data)] if params.data else [])]


def log_path(home: Path, model: str) -> Path:
    """A model's answers, one file for each."""
    return home / "responses" / f"{model[:32]}.jsonl"


def published_items(loaded: harness.Loaded) -> list[contamination.Asked]:
    """The questions of published benchmarks; what the sources hold out, `validate` has kept out of the release."""
    return [
        contamination.Asked(
            doc["id"],
            doc["benchmark"],
            doc["question"],
            tuple(ImageRef(**image) for image in harness.images_of(doc)),
        )
        for task in loaded.tasks.values()
        if harness.is_published(task)
        for doc in task.eval_docs
    ]


def check(params: Params) -> None:
    if taken := sorted(params.servers.keys() & FOLDERS.keys()):
        raise VistuneError(
            f"evaluate.servers has {taken[0]}, which names a model of the run. Call the server otherwise."
        )
    if params.processes < 0:
        raise VistuneError(f"evaluate.processes is {params.processes}; expected 1 or more, or 0 for one per GPU.")
    for name in ("limit", "batch_tokens", "generated_images", "max_new_tokens", "replicates", "candidates"):
        value = getattr(params, name)
        if value is not None and value < 1:
            raise VistuneError(f"evaluate.{name} is {value}; expected at least 1.")
    if not 0.5 <= params.confidence < 1:
        raise VistuneError(f"evaluate.confidence is {params.confidence}; expected a share from 0.5 to below 1.")


def refuse_leaks(benchmark_images: Iterable[str], release: Path) -> None:
    """Raises VistuneError when an image of the benchmarks is in the training release (by digest of its bytes)."""
    wanted = set(benchmark_images)
    leaks: dict[str, str] = {}
    for sample in store.read_samples(release):
        for image in sample.images:
            if image.sha256 in wanted:
                leaks.setdefault(image.sha256, sample.id)
    if leaks:
        sha, sample_id = min(leaks.items())
        raise VistuneError(
            f"leak: {len(leaks)} of {len(wanted)} benchmark images are in the training release, first {sha[:12]}… "
            f"(sample {sample_id}). Scores on them would not be zero-shot. Remove these images from the training "
            "data sets or from the benchmarks, and run validate again."
        )


def count_items(loaded: harness.Loaded) -> tuple[int, Counter[str]]:
    """Items of published benchmarks and those scored by ranking, and how many of each were left out by the limit (the
    demo asks some of its items a second time, in free text)."""
    asked, beyond = 0, Counter[str]()
    for task in loaded.tasks.values():
        if task.OUTPUT_TYPE == "multiple_choice" or harness.is_published(task):
            docs = task.eval_docs
            asked += len(docs)
            beyond[docs[0]["benchmark"]] += docs.total - len(docs)
    return asked, beyond
