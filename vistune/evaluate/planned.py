"""What a run can show, said before it is paid for: `vistune evaluate --plan`.

The smallest difference that a benchmark's images detect follows from how many items an image has, how often two models
differ at all (discordance) and how far items of one image agree (correlation). The last two are not known beforehand,
so the table shows three discordances: models that are close differ on 5 % of the items, unlike ones on 20 %.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

from vistune.answers import Directions, meant
from vistune.errors import VistuneError
from vistune.evaluate import Params, aggregates, declared, gate, harness
from vistune.statistics import POINTS, detectable, planned_error

DISCORDANCES = (0.05, 0.1, 0.2)
EXPECTED = DISCORDANCES[1]
CORRELATION = 0.2
POWER = 0.8


@dataclass(frozen=True)
class Planned:
    """One benchmark, or several as one."""

    name: str
    sizes: tuple[int, ...]  # items about each image
    confidence: float

    @property
    def items(self) -> int:
        return sum(self.sizes)

    def detectable(self, discordance: float) -> float:
        """The smallest true difference found with 80 % power."""
        return detectable(planned_error(self.sizes, discordance, CORRELATION), self.confidence, POWER)

    def margin(self, discordance: float) -> float:
        """The smallest margin that equally good models are shown to keep with 80 % power (one-sided)."""
        normal = NormalDist()
        factor = normal.inv_cdf(self.confidence) + normal.inv_cdf(POWER)
        return factor * planned_error(self.sizes, discordance, CORRELATION)


@dataclass(frozen=True)
class Plan:
    benchmarks: tuple[Planned, ...]
    questions: int  # asked of all models under all conditions
    runs: int  # models times conditions
    warnings: tuple[str, ...]  # what the gate asks for and these images are unlikely to show

    def seconds(self, rate: float) -> float:
        """At so many questions a second. Raises VistuneError unless the rate is above 0."""
        if not rate > 0:
            raise VistuneError(f"--rate is {rate}; expected questions a second, above 0.")
        return self.questions / rate


def plan(params: Params, sources: Path, definitions: Path, seed: int) -> Plan:
    """Reads the questions, opens no model. `definitions`: eval/ of the repository."""
    from vistune import sources as annotated

    rule = gate.load_gate(definitions, params.gate)
    names = [b.name for b in annotated.load(sources)[1]] if (sources / "sources.json").is_file() else []
    metadata = {"sources": str(sources), "data": params.data, "seed": seed, "limit": params.limit}
    metadata["generated_images"] = params.generated_images
    loaded = harness.load_suite(definitions, params.suite, metadata, names)
    clusters: dict[str, list[str]] = {}
    asked = 0
    for task in loaded.tasks.values():
        docs = list(task.eval_docs)
        asked += len(docs)
        if task.OUTPUT_TYPE == "multiple_choice" or harness.is_published(task):
            clusters[docs[0]["benchmark"]] = aggregates.clusters(docs, harness.images_of)
    runs = len(params.conditions.base) + len(params.conditions.tuned)
    runs += sum(len(server.conditions) for server in params.servers.values())
    found = {name: _planned(name, [own], rule.confidence) for name, own in sorted(clusters.items())}
    told = [*declared.notices(declared.described(loaded)), *_warnings(rule, found, clusters)]
    told += _undecidable(rule, found, declared.directions(loaded))
    return Plan(tuple(found.values()), asked * runs, runs, tuple(told))


def _planned(name: str, clusters: Sequence[Sequence[str]], confidence: float) -> Planned:
    sizes = Counter(cluster for own in clusters for cluster in own)
    return Planned(name, tuple(sizes[cluster] for cluster in sorted(sizes)), confidence)


def _warnings(rule: gate.Gate, found: dict[str, Planned], clusters: dict[str, list[str]]) -> list[str]:
    """What will be inconclusive, or fail for want of evidence."""
    told = []
    names = meant(rule.target.benchmarks, found)
    told += [f"the target {n} is not in this suite: the gate will fail" for n in names if n not in found]
    known = [n for n in names if n in found]
    if known and rule.target.improve == "together":
        whole = _planned("target", [clusters[n] for n in known], rule.confidence)
        told.append(f"the target as a whole detects {100 * whole.detectable(EXPECTED):.1f} points")
        if len(whole.sizes) < rule.minimum_images:
            told.append(f"the target has {len(whole.sizes)} images and the gate wants {rule.minimum_images}")
    for one in rule.protected:
        names = meant(one.benchmarks, found)
        told += [
            f"the protected {name} is not in this suite: the gate will fail" for name in names if name not in found
        ]
        known = [name for name in names if name in found]
        parts = [_planned("all protected", [clusters[n] for n in known], rule.confidence)] if one.together else []
        for part in parts or [found[name] for name in known]:
            least = part.margin(EXPECTED) if part.sizes else 0.0
            if one.rule == "non_inferiority" and one.metric not in POINTS and least > one.margin:
                share = f"{100 * one.margin:g} points, and equal models are shown to keep {100 * least:.1f}"
                told.append(f"the margin of {part.name} is {share}: likely inconclusive")
    return told


def _undecidable(rule: gate.Gate, found: dict[str, Planned], better: Directions) -> list[str]:
    """Metrics that the gate names and that a benchmark lacks, or that are neither better nor worse."""
    told = []
    parts: tuple[gate.Target | gate.Protected, ...] = (rule.target, *rule.protected)
    for part in parts:
        for name in meant(part.benchmarks, found):
            known = better.get(name, {})
            if name in found and known.get(part.metric) is None:
                what = "neither better nor worse" if part.metric in known else f"not among {', '.join(sorted(known))}"
                told.append(f"{part.metric} of {name} is {what}: the gate will fail")
    return told


def show(plan: Plan, rate: float | None, price: float | None) -> None:
    """Prints the table, the questions, and their time and cost at a stated rate (questions a second) and price (of an
    hour)."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE, title="Detectable difference in points, 80 % power, by share of items that differ")
    table.add_column("benchmark", no_wrap=True)
    for heading in ("items", "images", *(f"{100 * share:g} %" for share in DISCORDANCES)):
        table.add_column(heading, justify="right")
    for row in plan.benchmarks:
        cells = [f"{100 * row.detectable(share):.1f}" for share in DISCORDANCES]
        table.add_row(row.name, f"{row.items:,}", f"{len(row.sizes):,}", *cells)
    console = Console()
    console.print(table)
    for text in plan.warnings:
        print(f"- {text}")
    print(f"{plan.questions:,} questions: {plan.runs} times the suite (models x conditions)")
    if rate is None:
        print(
            "time: say --rate QUESTIONS_A_SECOND, as an earlier run or `vistune evaluate --set evaluate.limit=4` showed"
        )
        return
    hours = plan.seconds(rate) / 3600
    cost = "" if price is None else f", {hours * price:,.2f} at {price:g} an hour"
    print(f"time: {hours:,.2f} hours at {rate:g} questions a second{cost}")
