"""What a training stage reads in which step: decided by keyed hashes and lengths alone, before a picture is opened.

A visit is some samples about the same pictures, which the model sees once for all of them. Visits are packed (`pack`),
packs of equal cost share a step. The plan is a pure function of the release, the stage and the seed, so every process
and every resumed run has the same one, whatever the number of processes.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from vistune.errors import VistuneError
from vistune.hashing import keyed, shuffled
from vistune.models.reader import Reader
from vistune.progress import Progress
from vistune.records import ImageRef, Sample
from vistune.tune import StageParams
from vistune.tune.lengths import Length, Lengths
from vistune.tune.mixture import draw
from vistune.tune.pack import Balance, balance, length_groups, pack, schedule

if TYPE_CHECKING:
    from vistune.tune.operations import Operations

WINDOWS = 16
"""Steps that are packed together, so that what is packed stays near its place in the epoch's order."""


class Visit(NamedTuple):
    """Samples about the same pictures, by their place in `Stage.samples`."""

    samples: tuple[int, ...]
    tokens: int
    patches: int
    answers: int
    cost: float  # of a training step, logits of answers included


Pack = tuple[Visit, ...]


@dataclass(frozen=True)
class Plan:
    """steps[n] lists the packs of step n over all processes; an empty pack stands for none."""

    samples: tuple[Sample, ...]
    lengths: Mapping[int, Length]  # of the samples that were considered
    steps: list[list[Pack]]
    left_out: dict[str, str]  # sample id -> why it is not trained on
    balance: Balance
    recomputed: float = 1.0  # operations that run over those that are counted: more with gradient checkpointing

    def cost(self, step: int) -> float:
        """Of all processes together."""
        return sum(map(_cost, self.steps[step]))

    def slowest(self, step: int, processes: int) -> float:
        """The costliest process's share of a step over the mean's: all others wait for it."""
        costs = list(map(_cost, self.steps[step]))
        each = [sum(costs[rank::processes]) for rank in range(processes)]
        return round(max(each) * processes / sum(each), 4)

    def shown(self) -> list[ImageRef]:
        """The pictures of all steps, each visit's."""
        visits = [visit for step in self.steps for one in step for visit in one]
        return [image for visit in visits for image in self.samples[visit.samples[0]].images]

    def describe(self) -> dict[str, Any]:
        visits = [visit for step in self.steps for one in step for visit in one]
        used = [n for visit in visits for n in visit.samples]
        tokens = sum(visit.tokens for visit in visits)
        packs = [sum(visit.tokens for visit in one) for step in self.steps for one in step]
        return {
            "steps": len(self.steps),
            "images": len({image.sha256 for n in used for image in self.samples[n].images}),
            "visits": len(visits),
            "samples": len(set(used)),
            "samples_by_task": dict(sorted(Counter(self.samples[n].task for n in used).items())),
            "epochs_by_dataset": _epochs(self.samples, used),
            "tokens": tokens,
            "tokens_read_alone": sum(self.lengths[n].tokens for n in used),
            "answer_tokens": sum(visit.answers for visit in visits),
            "longest_pack": max(packs, default=0),
            "longest_sample": max((self.lengths[n].tokens for n in used), default=0),
            "left_out": len(self.left_out),
            "slowest_process": self.balance.slowest,
        }


def _epochs(samples: Sequence[Sample], used: Sequence[int]) -> dict[str, float]:
    """How often each data set's samples are read on average: above 1 it is upsampled."""
    have, read = Counter(s.dataset for s in samples), Counter(samples[n].dataset for n in used)
    return {name: round(read[name] / count, 3) for name, count in sorted(have.items())}


def select(samples: Iterable[Sample], stage: StageParams, seed: int, split: str = "train") -> list[Sample]:
    """The stage's samples, ordered by id. Raises VistuneError when nothing is left to train on."""
    tasks = {"caption"} if stage.objective != "instruct" else set(stage.mixture)
    chosen = [
        sample
        for sample in samples
        if sample.split == split
        and (not stage.datasets or sample.dataset in stage.datasets)
        and (not tasks or sample.task in tasks)
        and (not stage.languages or sample.language in stage.languages)
    ]
    if not chosen and split == "train":
        raise VistuneError(
            f"training stage {stage.name} finds no samples: split {split}, datasets {list(stage.datasets) or 'all'}, "
            f"tasks {sorted(tasks) or 'all'}, languages {list(stage.languages)}. Check tune.stages against the release."
        )
    if stage.images:
        keys = sorted({about(s) for s in chosen}, key=lambda key: keyed(seed, stage.name, "images", *key))
        kept = set(keys[: stage.images])
        chosen = [s for s in chosen if about(s) in kept]
    return sorted(chosen, key=lambda s: s.id)


def about(sample: Sample) -> tuple[str, ...]:
    """What samples of one visit share: their pictures; a sample without pictures shares nothing."""
    return tuple(image.sha256 for image in sample.images) or (sample.id,)


def _marks(reader: Reader, sample: Sample) -> Any:
    """What is drawn over its pictures. A sample whose marks fail is left out when its length is asked for."""
    try:
        return reader.marked(sample.messages, sample.regions, len(sample.images), sample.id)[1]
    except VistuneError:
        return ()


def visit_of(samples: Sequence[int], lengths: Mapping[int, Length], shares: bool, logits: float) -> Visit:
    """Samples about the same pictures as one visit. Without `shares` each has its pictures to itself. logits: what
    those of one token cost."""
    if len(samples) == 1:
        one = lengths[samples[0]]
        return Visit((samples[0],), one.tokens, one.patches, one.answers, one.cost + logits * one.answers)
    each = [lengths[n] for n in samples]
    common = each[0].common if shares else 0
    answers = sum(length.answers for length in each)
    return Visit(
        tuple(samples),
        common + sum(length.tokens - common for length in each),
        each[0].patches * (1 if common else len(samples)),
        answers,
        each[0].cost + sum(n.cost * (1 - common / n.tokens) for n in each[1:]) + logits * answers,
    )


def make(
    samples: Sequence[Sample],
    reader: Reader,
    stage: StageParams,
    seed: int,
    operations: Operations | None = None,
    lengths: Lengths | None = None,
) -> Plan:
    """The stage's steps: epochs over the pictures in keyed order, each visit with its own choice of samples. With
    `operations` packs are balanced by them, else by tokens. lengths: of the samples, where they are not measured
    here."""
    if not stage.steps and stage.epochs <= 0:
        raise VistuneError(f"training stage {stage.name} has neither steps nor epochs. Set one in tune.stages.")
    lengths = lengths or Lengths(samples, reader, stage, operations)
    logits = operations.logits if operations else 0.0
    shares = reader.family.packs
    groups: dict[Any, list[int]] = defaultdict(list)  # by pictures, and what is drawn over them
    for n, sample in enumerate(samples):
        groups[about(sample), _marks(reader, sample)].append(n)

    parts: dict[str, list[Any]] = defaultdict(list)
    for key, members in groups.items():
        parts[samples[members[0]].dataset].append(key)

    def visits(epoch: int) -> Iterator[Visit]:
        order = draw(parts, stage.alpha, stage.caps, seed, stage.name, epoch)
        with Progress(f"tune {stage.name}, lengths", len(order), "pictures") as progress:
            for key, again in order:
                fitting = [n for n in groups[key] if lengths.fits(n)]
                if fitting:
                    chosen = choose(fitting, samples, stage, seed, epoch, again)
                    yield from _split(chosen, lengths.known, stage.max_tokens, shares, logits)
                progress.step()

    def epoch_steps(epoch: int) -> Iterator[list[Pack]]:
        windows = _windows(visits(epoch), stage)
        if not stage.samples:
            dealt = schedule(
                windows, lambda window: _packed(window, stage, shares), _cost, stage.batch, seed, stage.name, epoch
            )
            return ([tuple(one) for one in step] for step in dealt)
        # the costliest first: dealt round, all processes have nearly the same
        return (
            [tuple(one) for one in sorted(_packed(window, stage, shares), key=_cost, reverse=True)]
            for window in windows
        )

    steps: list[list[Pack]] = []
    epoch = 0
    while len(steps) < stage.steps if stage.steps else epoch < stage.epochs:
        steps += itertools.islice(epoch_steps(epoch), stage.steps - len(steps) if stage.steps else None)
        if not steps:
            sample_id, reason = next(iter(lengths.left_out.items()))
            raise VistuneError(
                f"training stage {stage.name} can use none of its {len(samples)} samples (max_tokens "
                f"{stage.max_tokens}, longest {stage.longest}, the model's limit {reader.preset.limit}); {sample_id}: "
                f"{reason}. Raise them in tune.stages."
            )
        epoch += 1
    if not stage.steps:
        steps = steps[: round(len(steps) * stage.epochs / epoch)]
    even = balance([[*map(_cost, step)] for step in steps])
    recomputed = operations.recomputed() if operations else 1.0
    return Plan(tuple(samples), lengths.known, steps, lengths.left_out, even, recomputed)


def _cost(one: Sequence[Visit]) -> float:
    return sum(visit.cost for visit in one)


def choose(
    group: Sequence[int], samples: Sequence[Sample], stage: StageParams, seed: int, epoch: int, again: int = 0
) -> list[int]:
    """The samples of one visit: per task as many as the mixture says, by keyed order. again: of the visits to these
    pictures in this epoch."""
    if len(group) == 1:
        return list(group)[: stage.mixture.get(samples[group[0]].task, 1)]
    by_task: dict[str, list[int]] = defaultdict(list)
    which = (epoch, again) if again else (epoch,)
    for n in sorted(group, key=lambda n: keyed(seed, stage.name, *which, samples[n].id)):
        by_task[samples[n].task].append(n)
    chosen = [n for task, some in sorted(by_task.items()) for n in some[: stage.mixture.get(task, 1)]]
    return shuffled(chosen, seed, stage.name, "visit", *which, samples[group[0]].id)


def _split(chosen: Sequence[int], lengths: Mapping[int, Length], most: int, shares: bool, logits: float) -> list[Visit]:
    """The visit, in as many parts as it needs to fit a pack."""
    if not shares:
        return [visit_of([n], lengths, False, logits) for n in chosen]
    parts: list[Visit] = []
    current: list[int] = []
    for n in chosen:
        if current and visit_of([*current, n], lengths, True, logits).tokens > most:
            parts.append(visit_of(current, lengths, True, logits))
            current = []
        current.append(n)
    return [*parts, visit_of(current, lengths, True, logits)] if current else parts


def _windows(visits: Iterator[Visit], stage: StageParams) -> Iterator[list[Visit]]:
    """What is packed together: some steps' visits, or those of one step where it has a number of samples."""
    if not stage.samples:
        while window := list(itertools.islice(visits, WINDOWS * stage.batch)):
            yield window
        return
    window = []
    for visit in visits:
        window.append(visit)
        if sum(len(each.samples) for each in window) >= stage.samples:
            yield window
            window = []
    if window:
        yield window


def _packed(visits: Sequence[Visit], stage: StageParams, shares: bool) -> list[list[Visit]]:
    tokens = [visit.tokens for visit in visits]
    if shares:
        groups = pack(tokens, [visit.patches for visit in visits], stage.max_tokens, stage.max_patches)
    else:
        groups = length_groups(tokens, stage.max_tokens)
    return [[visits[n] for n in group] for group in groups]
