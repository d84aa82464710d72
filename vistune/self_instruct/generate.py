"""The stage's flow: draw images, ask the teacher, filter what it says, write samples and what was refused.

The unit that is counted is the question-and-answer item: in = out + rejected, where a reply that gives no item, an
image that cannot be asked about, and a source row that cannot be read count as one each. A dialogue that loses a turn
keeps the others.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.errors import VistuneError
from vistune.exchange import Request, Teacher
from vistune.files import atomic
from vistune.hashing import keyed, shuffled
from vistune.licences import effective
from vistune.progress import Progress
from vistune.records import AnnotatedImage, Lineage, Region, Reject, Sample, conversation, sample_id
from vistune.self_instruct.asking import STAGE, Asked, Asker, Exchange, check, kinds_of, rows, within_budget
from vistune.self_instruct.facts import Facts, related
from vistune.self_instruct.filters import RULES, SEQUENCE_RULES, Pool
from vistune.self_instruct.grounding import Turn
from vistune.self_instruct.parse import Pair
from vistune.self_instruct.prompts import KINDS, load
from vistune.store import counts, write_rejects, write_samples

if TYPE_CHECKING:
    from vistune.self_instruct import Params
    from vistune.stages import Context

BLOCK = 200
"""Images asked about before their samples are made: bounds what is in memory."""

EXAMPLES = 8

REQUESTS = "requests.jsonl"
"""What was asked and answered, in the order of the images' ids."""

MULTI_TURN = "conversation"
"""The kind whose items are turns of one sample; an item of any other kind is a sample of its own."""


def choose_images(root: Path, params: Params, seed: int) -> tuple[list[AnnotatedImage], list[Reject]]:
    """`params.images` images drawn from the training sets that allow dialogues, and the rows that could not be read.
    Raises VistuneError when there is none to draw from."""
    from vistune.sources import load as load_sources
    from vistune.sources import read

    check(params)
    rejects: list[Reject] = []
    if not params.images or not any(params.kinds.values()):
        return [], rejects
    every = load_sources(root)[0]
    datasets = [d for d in every if d.dialogues and d.split == "train"]
    rows = (row for dataset in datasets for row in read(root, dataset, rejects, STAGE))
    stream = (row for row in rows if isinstance(row, AnnotatedImage))  # a dialogue needs no other written about it
    drawn = heapq.nsmallest(params.images, stream, key=lambda i: (keyed(seed, STAGE, "image", i.id), i.id))
    if not drawn:
        raise VistuneError(
            f"no image to write dialogues about: of the {len(every)} data sets in {root}, {len(datasets)} have split "
            "'train' and dialogues: true, and none of these has a readable image. Add one, or set self_instruct.images "
            "to 0 to go without dialogues."
        )
    return drawn, rejects


def generate(
    images: Iterable[AnnotatedImage],
    rejects: list[Reject],
    teacher: Teacher,
    params: Params,
    output: Path,
    context: Context,
) -> dict[str, Any]:
    """Writes `samples-*.parquet`, `rejects-*.parquet` and `requests.jsonl`; returns the stage's summary. The order of
    `images` does not matter."""
    check(params)
    work = Work(teacher.name, context.seed, rejects)
    askable = work.sorted(images)
    planned = requests_of(askable, params, context.seed)
    within_budget(planned, params)
    return conclude(work, converse(askable, work, teacher, params, output, planned), params, output)


def requests_of(askable: Iterable[AnnotatedImage], params: Params, seed: int) -> int:
    """How many requests these images need, without those that are asked again."""
    return sum(len(kinds_of(image.id, params, seed)) for image in askable)


def converse(
    askable: list[AnnotatedImage], work: Work, teacher: Teacher, params: Params, output: Path, planned: int
) -> Asked:
    """Asks about all images, in this order, fills `work` and writes `requests.jsonl`; says what was asked."""
    asker = Asker(teacher, params, work.seed, planned)
    output.mkdir(parents=True, exist_ok=True)
    for leftover in output.iterdir():  # of a killed run, temporary files among them
        leftover.unlink()
    with (
        Progress(STAGE, planned, "requests") as progress,
        atomic(output / REQUESTS) as path,
        open(path, "w", encoding="utf-8") as file,
    ):
        for start in range(0, len(askable), BLOCK):
            exchanges = asker.ask([Facts(image) for image in askable[start : start + BLOCK]], progress)
            work.add(exchanges)
            for exchange in exchanges:
                for row in rows(exchange, teacher.name):
                    file.write(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n")
    return asker.asked()


def conclude(work: Work, asked: Asked, params: Params, output: Path) -> dict[str, Any]:
    """Writes samples and rejects; returns the stage's summary. Raises VistuneError when no reply can be used."""
    if asked.planned and not work.samples:
        reasons = Counter(r.reason for r in work.rejects).most_common(3)
        raise VistuneError(
            f"no dialogue of {work.teacher} can be used: of {asked.planned} replies nothing was kept "
            f"({', '.join(f'{n} {reason}' for reason, n in reasons)}). Look at the replies in {output}/{REQUESTS}, "
            "or try another model or teacher."
        )
    write_samples(output, work.samples)
    write_rejects(output, work.rejects)
    return {"counts": counts(work.entered, work.kept, work.rejects), **_summary(work, asked, params)}


class Work:
    """Samples and rejects as they grow."""

    def __init__(self, teacher: str, seed: int, rejects: list[Reject]) -> None:
        self.teacher, self.seed = teacher, seed
        self.rejects = list(rejects)
        self.samples: list[Sample] = []
        self.entered = len(rejects)
        self.kept = 0

    def sorted(self, images: Iterable[AnnotatedImage]) -> list[AnnotatedImage]:
        """The images that can be asked about, by their ids; the others are rejected."""
        return sorted((image for image in images if self.askable(image)), key=lambda i: i.id)

    def askable(self, image: AnnotatedImage) -> bool:
        if not image.licence.strip():
            self._refuse(image.id, "licence_missing", "the image states no licence.")
        elif not image.captions and not image.objects:
            self._refuse(image.id, "nothing_annotated", "the image has neither captions nor objects.")
        else:
            return True
        return False

    def add(self, exchanges: Iterable[Exchange]) -> None:
        """Filters what was said, image by image."""
        pools: dict[str, Pool] = {}
        for exchange in exchanges:
            facts = exchange.request.facts
            pool = pools.setdefault(facts.image.id, Pool(facts))
            self._dialogue(exchange, pool)

    def _dialogue(self, exchange: Exchange, pool: Pool) -> None:
        request, reply = exchange.last.request, exchange.last.reply
        key = f"{request.facts.image.id}/{request.kind}"
        if exchange.last.status != "ok":
            why = exchange.last.problem or f"request {request.id[:12]}… ended so"
            self._refuse(key, exchange.last.status, f"{why}; reply: {reply.text[:200]!r}")
        kept: list[tuple[int, Pair]] = []
        for item, (pair, verdict) in enumerate(
            zip(exchange.pairs, pool.filter(request.kind, exchange.pairs), strict=True)
        ):
            rule, why = verdict
            if rule:
                self._refuse(f"{key}/{item}", rule, f"{why} | Q: {pair[0][:200]} | A: {pair[1][:200]}")
            else:
                kept.append((item, pair))
        self.entered += len(kept)
        self.kept += len(kept)
        if request.kind == MULTI_TURN and kept:
            self.samples.append(self._sample(request, 0, [pair for _, pair in kept]))
        else:
            self.samples += [self._sample(request, item, [pair]) for item, pair in kept]

    def _refuse(self, key: str, reason: str, detail: str) -> None:
        self.rejects.append(Reject(STAGE, key, reason, detail))
        self.entered += 1

    def _sample(self, request: Request, item: int, pairs: list[Pair]) -> Sample:
        image, prompt = request.facts.image, load(request.kind)
        evidence = sorted(c.id for c in image.captions) + sorted(o.id for o in image.objects)
        lineage = Lineage(
            image.id,
            tuple(evidence),
            image.files,
            prompt=prompt.key,
            prompt_sha256=prompt.sha256,
            teacher=self.teacher,
            request=request.id,
            item=item,
        )
        (question, answer), before = pairs[-1], pairs[:-1]
        return Sample(
            id=sample_id(request.kind, lineage, self.seed),
            dataset=image.dataset,
            split=image.split,
            task=request.kind,
            method="self_instruct",
            instruction=question,
            input="\n".join(f"User: {q}\nAssistant: {a}" for q, a in before),
            response=answer,
            messages=conversation(pairs),
            images=(image.image,),
            lineage=lineage,
            licence=effective(image.licence),
            group=image.image.sha256,
            polarity="negative" if request.kind == "negative" else "",
            regions=regions(request, pairs),
        )


def regions(request: Request, pairs: list[Pair]) -> tuple[Region, ...]:
    """The boxes of everything annotated that the dialogue names without denying it."""
    named: set[str] = set()
    for pair in pairs:
        turn = Turn(request.facts, request.kind, *pair)
        named |= {m.label for _, found in (*turn.asked, *turn.answered) for m in found if not m.denied}
    things = sorted((o for o in request.facts.image.objects if o.thing), key=lambda o: o.id)
    return tuple(
        Region(o.box, o.category.label, o.id)
        for o in things
        if any(related(label, o.category.label) for label in named)
    )


def _summary(work: Work, asked: Asked, params: Params) -> dict[str, Any]:
    total = sum(asked.statuses.values())
    reasons = Counter(r.reason for r in work.rejects)
    tasks = Counter(s.task for s in work.samples)
    metrics = {
        "samples": len(work.samples),
        "requests": total,
        "requests_repeated": total - asked.planned,
        "prompt_tokens": asked.tokens["prompt"],
        "completion_tokens": asked.tokens["completion"],
    }
    measured = {name: asked.usage[name] for name in ("requests_sent", "requests_reused", "retries")}
    details = {
        "teacher": work.teacher,
        "prompts": {load(k).key: load(k).sha256 for k in KINDS if params.kinds.get(k)},
        "tasks": {k: tasks[k] for k in KINDS},
        "requests": dict(sorted(asked.statuses.items())),
        "rules": {rule: reasons[rule] for rule in (*RULES, *SEQUENCE_RULES)},
        "problems": sorted(asked.problems)[:EXAMPLES],
        "examples": _examples(work),
    }
    return {
        "metrics": {name: float(value) for name, value in metrics.items()},
        "measured": {name: float(value) for name, value in measured.items()},
        "details": details,
    }


def _examples(work: Work) -> list[dict[str, Any]]:
    """A few samples of every kind, as the report shows them."""
    chosen: list[Sample] = []
    for kind in KINDS:
        own = sorted((s for s in work.samples if s.task == kind), key=lambda s: s.id)
        chosen += shuffled(own, work.seed, STAGE, "examples", kind)[: EXAMPLES // len(KINDS)]
    return [
        {
            "id": s.id,
            "task": s.task,
            "image": s.lineage.annotated_image,
            "path": s.images[0].path,
            "messages": [[m.role, m.text] for m in s.messages],
        }
        for s in chosen
    ]
