"""The self_instruct stage in parts, each in a process of its own on any machine, and their merger.

A part asks about every so manyth image, in the order of their ids; the first one also keeps what could not be asked.
An image's dialogues depend on no other image, so the merged result is that of one process, byte for byte, as long as
the budget cannot run out: it could run out earlier in one part than in another.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.errors import VistuneError
from vistune.exchange import Teacher
from vistune.files import atomic, read_json, write_json
from vistune.records import AnnotatedImage, Reject
from vistune.self_instruct.asking import Asked, check, within_budget
from vistune.self_instruct.generate import REQUESTS, Work, conclude, converse, requests_of
from vistune.store import counts, read_rejects, read_samples, write_rejects, write_samples

if TYPE_CHECKING:
    from vistune.self_instruct import Params
    from vistune.stages import Context

PART = "part.json"


def run_part(
    images: Iterable[AnnotatedImage],
    rejects: list[Reject],
    teacher: Teacher,
    params: Params,
    output: Path,
    context: Context,
    part: tuple[int, int],
) -> dict[str, Any]:
    """Writes what `generate` writes about part `part[0]` of `part[1]`, and `part.json` with what was asked."""
    check(params)
    which, of = part
    work = Work(teacher.name, context.seed, rejects)
    askable = work.sorted(images)
    if which:  # the first part has them
        work.rejects, work.entered = [], 0
    planned = requests_of(askable, params, context.seed)
    within_budget(planned, params)
    if planned * (1 + params.reasks) > params.max_requests:
        raise VistuneError(
            f"self_instruct.max_requests is {params.max_requests:,}, and {planned:,} requests that may each be asked "
            f"{params.reasks} times again come to {planned * (1 + params.reasks):,}. In parts the budget must cover "
            "all of them, so that the result does not depend on the number of parts. Raise it, lower "
            "self_instruct.reasks, or compile with VISTUNE_SHARDS=1. Nothing was sent."
        )
    own = askable[which::of]
    asked = converse(own, work, teacher, params, output, requests_of(own, params, context.seed))
    write_samples(output, work.samples)
    write_rejects(output, work.rejects)
    plain: dict[str, Any] = {name: dict(getattr(asked, name)) for name in ("statuses", "tokens", "usage")}
    plain |= {"planned": asked.planned, "problems": sorted(asked.problems)}
    write_json(output / PART, {"entered": work.entered, "kept": work.kept, "teacher": work.teacher, "asked": plain})
    metrics = {"samples": float(len(work.samples)), "requests": float(sum(asked.statuses.values()))}
    return {"counts": counts(work.entered, work.kept, work.rejects), "metrics": metrics, "details": {}}


def merge(params: Params, output: Path, context: Context, parts: Sequence[Path]) -> dict[str, Any]:
    """What `generate` would have written, from the outputs of all parts."""
    asked, plain = Asked(), [read_json(folder / PART) for folder in parts]
    work = Work(plain[0]["teacher"], context.seed, [])
    for folder, one in zip(parts, plain, strict=True):
        given = one["asked"]
        statuses, tokens, usage = (Counter(given[name]) for name in ("statuses", "tokens", "usage"))
        asked.merge(Asked(given["planned"], statuses, tokens, usage, set(given["problems"])))
        work.samples += read_samples(folder)
        work.rejects += read_rejects(folder)
        work.entered += one["entered"]
        work.kept += one["kept"]
    with ExitStack() as stack, atomic(output / REQUESTS) as path:
        files = [stack.enter_context(open(folder / REQUESTS, encoding="utf-8")) for folder in parts]
        with open(path, "w", encoding="utf-8") as target:
            target.writelines(heapq.merge(*files, key=lambda line: json.loads(line)["image"]))
    return conclude(work, asked, params, output)
