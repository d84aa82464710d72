"""Our engine beside another trainer: the same model, the same samples, one thread, turn by turn."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from parts.peers import absent
from parts.tune_data import write

STEPS, BATCH, ROUNDS = 8, 8, 2
ONCE = "trl"
"""Takes minutes: it runs in the first round only."""
FIRST = 2
"""Steps that are not counted: what is loaded and allocated once."""
HERE = Path(__file__).resolve().parent

QUIET = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

OURS = {"ours": {}, "ours_planned": {"planned": True}}
PEERS: dict[str, dict[str, dict[str, bool]]] = {
    "trl": {"trl": {}, "trl_labelled": {"labelled": True}, "trl_labelled_grouped": {"labelled": True, "grouped": True}},
    "llamafactory": {"llamafactory": {}},
}


def trl(python: str) -> dict[str, Any]:
    """TRL's SFTTrainer. trl: as installed. On a CPU it makes logits at every position, padding too. trl_labelled:
    logits where there are labels, as it does on a GPU. trl_labelled_grouped: that, and batches of like length."""
    return beside("trl", python)


def llamafactory(python: str) -> dict[str, Any]:
    """LLaMA-Factory's supervised fine-tuning, as installed: logits at every position."""
    return beside("llamafactory", python)


def beside(peer: str, python: str) -> dict[str, Any]:
    """Real tokens a second of processor time in steps 3 to 8 of 8 samples, of each step the least of two runs (`trl`:
    of one), so that start-up and other work on the machine count little.

    - ours: the samples of the peer's steps, each step one row. ours_planned: steps as our planner makes them.

    `losses_differ`: largest difference of a step's loss between `ours` and the peer as installed, which is computed on
    the same inputs: bit for bit equal token ids, labels and pixels in the first two batches.
    """
    if not has(peer, python):
        return absent(peer, python)
    arms = PEERS[peer]
    with tempfile.TemporaryDirectory() as name:
        folder = write(Path(name), STEPS * BATCH)
        job = first_job(folder)
        same = same_inputs(folder, job, python, peer)
        runs: dict[str, list[Any]] = {arm: [] for arm in (*OURS, *arms)}
        for round_ in range(ROUNDS):
            for arm, options in {**OURS, **arms}.items():
                if round_ and arm == ONCE:
                    continue
                who = ("ours", sys.executable) if arm in OURS else (peer, python)
                runs[arm].append(run(folder, {**job, **options}, *who))
                print(f"  {arm}: {rate(runs[arm][-1:])} tokens/s", file=sys.stderr, flush=True)
    rates = {arm: rate(each) for arm, each in runs.items()}
    ours, theirs = runs["ours"][0], runs[peer][0]
    assert ours["tokens"] == theirs["tokens"], "not the same samples in a step"
    return {
        "versions": theirs["versions"],
        "parameters": job["parameters"],
        "samples": STEPS * BATCH,
        "batch": BATCH,
        "median_tokens": sorted(job["lengths"])[len(job["lengths"]) // 2],
        "answer_share": job["answer_share"],
        "inputs_equal": same,
        "padding": {arm: round(1 - sum(each[0]["tokens"]) / sum(each[0]["places"]), 3) for arm, each in runs.items()},
        "tokens_per_cpu_s": rates,
        "ratio": {arm: round(rates["ours"] / rates[arm], 2) for arm in arms},
        "ratio_planned": {arm: round(rates["ours_planned"] / rates[arm], 2) for arm in arms},
        "losses": {"ours": rounded(ours), peer: rounded(theirs)},
        "losses_differ": max(abs(a - b) for a, b in zip(ours["losses"], theirs["losses"], strict=True)),
        "target": {"ratio": 2.5},
    }


def has(peer: str, python: str) -> bool:
    if not python or not shutil.which(python):
        return False
    return subprocess.run([python, "-c", f"import {peer}"], capture_output=True, check=False).returncode == 0


def first_job(folder: Path) -> dict[str, Any]:
    from vistune.models.labels import IGNORE
    from vistune.models.vlm import load
    from vistune.store import read_samples
    from vistune.tune.schedule import cosine

    vlm, samples = load(folder / "model"), list(read_samples(folder / "release"))
    readings = [vlm.reader.read(s.messages, [(i.width, i.height) for i in s.images]) for s in samples]
    lengths, warmup = [reading.length for reading in readings], 0.05
    learned = sum(label != IGNORE for reading in readings for label in reading.labels)
    return {
        "folder": str(folder),
        "steps": STEPS,
        "batch": BATCH,
        "rate": 1e-3,
        "warmup": warmup,
        "factors": [cosine(step, STEPS, warmup) for step in range(STEPS)],
        "lengths": lengths,
        "answer_share": round(learned / sum(lengths), 3),
        "parameters": sum(p.numel() for p in vlm.model.parameters()),
        **dict.fromkeys(("labelled", "grouped", "planned"), False),
        "inputs": "",
    }


def run(folder: Path, job: dict[str, Any], who: str, python: str) -> Any:
    """One run in a process of its own; None where the job is to write its inputs."""
    (folder / "job.json").write_text(json.dumps(job))
    command = [python, str(HERE / f"tune_{who}.py"), str(folder / "job.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | QUIET)
    if done.returncode:
        raise SystemExit(done.stderr)
    return None if job["inputs"] else json.loads(done.stdout.strip().splitlines()[-1])


def rate(runs: list[Any]) -> int:
    """Real tokens a second after the first steps, of each step the least time of all runs."""
    spent = [[b - a for a, b in zip(one["times"], one["times"][1:], strict=False)][FIRST - 1 :] for one in runs]
    return round(sum(runs[0]["tokens"][FIRST:]) / sum(map(min, *spent) if len(spent) > 1 else spent[0]))


def rounded(one: Any) -> list[float]:
    return [round(loss, 4) for loss in one["losses"]]


def same_inputs(folder: Path, job: dict[str, Any], python: str, peer: str) -> bool:
    """Whether the peer's first two batches are what our reader makes of the same samples, padding at the end aside."""
    import torch

    from vistune.models.vlm import load
    from vistune.store import open_image, read_samples

    run(folder, {**job, "inputs": str(folder / "inputs.pt")}, peer, python)
    reader, samples = load(folder / "model").reader, list(read_samples(folder / "release"))
    for n, theirs in enumerate(torch.load(folder / "inputs.pt", weights_only=True)):
        part = samples[n * BATCH : (n + 1) * BATCH]
        readings = [reader.read(s.messages, [(i.width, i.height) for i in s.images]) for s in part]
        shown = [[open_image(folder / "release", image) for image in s.images] for s in part]
        pictures = [reader.look(*both) for both in zip(readings, shown, strict=True)]
        ours = reader.batch(readings, pictures)
        width = ours["input_ids"].shape[1]
        if theirs["attention_mask"][:, width:].any() or not torch.equal(ours["pixel_values"], theirs["pixel_values"]):
            return False
        for key in ("input_ids", "attention_mask", "labels"):
            if not torch.equal(ours[key], theirs[key][:, :width]):
                return False
    return True
