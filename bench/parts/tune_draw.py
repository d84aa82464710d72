"""The table and the plot of the tune bench, from its kept results."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

NAMES = {
    "ours": "ours",
    "ours_planned": "ours, steps as planned",
    "trl": "TRL, as installed",
    "trl_labelled": "TRL, logits where labels are",
    "trl_labelled_grouped": "the same, batches by length",
    "llamafactory": "LLaMA-Factory, as installed",
}
PEERS = {"trl": "TRL", "llamafactory": "LLaMA-Factory"}


def table(kept: Mapping[str, Any]) -> str:
    return "\n".join(_lines(kept)) + "\n"


def _lines(kept: Mapping[str, Any]) -> Iterator[str]:
    yield (
        "Made by `python bench/tune.py --trl PYTHON --llamafactory PYTHON`; all figures, with their commands, are in "
        "tune.json."
    )
    for peer, name in PEERS.items():
        yield from _beside(kept.get(peer, {}), name)
    if memory := kept.get("loss_memory"):
        yield "\n| loss of 4,096 tokens x 32,064, half answers | peak, MB | less than full | CPU s |"
        yield "|---|---|---|---|"
        for arm, mb in memory["mb"].items():
            yield f"| {arm} | {mb:,} | {memory['less_than_full'][arm]} x | {memory['cpu_s'][arm]} |"
    if batching := kept.get("batching"):
        yield "\n| forward and backward | padding | real tokens a CPU second |"
        yield "|---|---|---|"
        for arm, rate in batching["tokens_per_cpu_s"].items():
            yield f"| {arm.replace('_', ' ')} | {batching['padding'][arm]:.1%} | {rate:,} |"
    if alone := kept.get("attention"):
        yield f"\nAttention of one pack of 4,096 tokens: a dense mask takes {alone['ratio']} x the time of segments."
    if balance := kept.get("balance"):
        yield "\nThe costliest process over the mean, summed over steps (and in the worst step):\n"
        yield "| lengths of | processes | ours | packs shuffled | samples shuffled |"
        yield "|---|---|---|---|---|"
        for model, counts in balance["models"].items():
            for processes, found in counts.items():
                cells = [found[arm] for arm in ("ours", "packs_shuffled", "samples_shuffled")]
                shown = " | ".join(f"{cell['slowest']:.3f} ({cell['worst']:.2f})" for cell in cells)
                yield f"| {model} | {int(processes):,} | {shown} |"


def _beside(beside: Mapping[str, Any], peer: str) -> Iterator[str]:
    if "tokens_per_cpu_s" in beside:
        versions = ", ".join(f"{name} {version}" for name, version in beside["versions"].items())
        yield f"\nTiny LLaVA, {beside['parameters']:,} parameters; batches of {beside['batch']} samples, {versions}.\n"
        yield "| one thread | padding | real tokens a CPU second | ours is faster by |"
        yield "|---|---|---|---|"
        for arm, rate in beside["tokens_per_cpu_s"].items():
            ratio = f"{beside['ratio'][arm]} x" if arm in beside["ratio"] else ""
            yield f"| {NAMES[arm]} | {beside['padding'][arm]:.1%} | {rate:,} | {ratio} |"
        yield f"\nLargest difference of a step's loss, ours against {peer}: {beside['losses_differ']:.1e}."
    elif beside:
        yield f"\n{peer}: not measured, it was not installed."


def draw(kept: Mapping[str, Any], path: Path) -> None:
    """Tokens a second, loss curves, memory, and balance, side by side."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, ((speed, curve), (memory, balance)) = pyplot.subplots(2, 2, figsize=(12, 8), layout="constrained")
    found = [(peer, kept[peer]) for peer in PEERS if "tokens_per_cpu_s" in kept.get(peer, {})]
    rates = {arm: rate for _, beside in reversed(found) for arm, rate in beside["tokens_per_cpu_s"].items()}
    losses = {arm: values for _, beside in reversed(found) for arm, values in beside["losses"].items()}
    if found:
        bars = speed.barh([NAMES[arm] for arm in rates][::-1], list(rates.values())[::-1], color="#4477aa")
        speed.bar_label(bars, padding=3)
        for arm, values in losses.items():
            style = {"ours": "-", "trl": "o"}.get(arm, "k+")
            curve.plot(range(1, 1 + len(values)), values, style, label=NAMES[arm], zorder=3 if style == "k+" else 2)
        curve.legend()
    speed.margins(x=0.15)
    speed.set_title("real tokens a CPU second, one thread")
    curve.set_title("loss by step, same samples")
    kinds = kept["loss_memory"]["mb"]
    memory.bar_label(memory.bar(list(kinds), list(kinds.values()), color="#cc6677"), padding=3)
    memory.margins(y=0.1)
    memory.set_title("peak memory of the loss, MB (4,096 x 32,064, half answers)")
    models = kept["balance"]["models"]
    for arm, marker in (("ours", "o"), ("packs_shuffled", "s"), ("samples_shuffled", "^")):
        for model, line in zip(models, ("-", "--", ":"), strict=True):
            values = [found[arm]["slowest"] for found in models[model].values()]
            balance.plot(list(models[model]), values, marker=marker, linestyle=line, label=f"{arm}, {model[:13]}")
    balance.set_title("costliest process over the mean, by processes")
    balance.legend(fontsize=7)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
