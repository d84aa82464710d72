"""Runs all training stages, in this process or in several started by torchrun."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.errors import VistuneError
from vistune.files import read_json, write_json, write_text
from vistune.params import parse
from vistune.tune import Params, StageParams

if TYPE_CHECKING:
    from vistune.stages import Context

VALIDATION_IMAGES = 16


def launch(params: Params, release: Path, output: Path, context: Context) -> dict[str, Any]:
    import torch

    if not params.stages:
        raise VistuneError("tune.stages is empty: name at least one training stage.")
    processes = params.processes or torch.cuda.device_count() or 1
    for stage in params.stages:
        if stage.objective != "embedding" and stage.batch % processes:
            raise VistuneError(
                f"training stage {stage.name}: batch {stage.batch} cannot be dealt evenly to {processes} processes."
            )
    if processes == 1:
        return work(params, release, output, context.seed, context.home, context.root, context.log)
    job = output / "job.json"
    write_json(
        job,
        {
            "params": dataclasses.asdict(params),
            "seed": context.seed,
            **{
                k: str(v)
                for k, v in {"release": release, "output": output, "home": context.home, "root": context.root}.items()
            },
        },
    )
    command = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={processes}",
        "-m",
        "vistune.tune.launch",
    ]
    done = subprocess.run([sys.executable, *command, str(job)], env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise VistuneError(f"tuning on {processes} processes failed with status {done.returncode}; the cause is above.")
    job.unlink()
    for line in (output / "history.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        stage, step = entry.pop("stage"), entry.pop("step")
        context.log({f"{stage}/{k}": v for k, v in entry.items()}, step)
    summary = read_json(output / "summary.json")
    (output / "summary.json").unlink()
    return summary


def work(
    params: Params,
    release: Path,
    output: Path,
    seed: int,
    home: Path,
    root: Path,
    log: Callable[[dict[str, float], int], None],
) -> dict[str, Any]:
    """One process's part. The first writes; a stage whose model is already saved is not run again."""
    import torch

    from vistune.models.modeling import cast_language, load_model, precision
    from vistune.models.vlm import build
    from vistune.store import read_samples
    from vistune.tune import engine as engines
    from vistune.tune.embedding import align
    from vistune.tune.features import Features
    from vistune.tune.loop import train
    from vistune.tune.rows import Packer, plan, select

    rank, processes = engines.world()
    torch.set_num_threads(params.threads or (os.cpu_count() or 1) // processes or 1)
    device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    if device != "cpu":
        torch.cuda.set_device(device)
    if processes > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if device != "cpu" else "gloo")
    dtype = precision(params.dtype, device)
    if rank == 0:
        name = str(dtype).removeprefix("torch.")
        print(f"tune: {processes} process(es), {torch.get_num_threads()} threads, {device}, {name}", flush=True)
    release_samples = list(read_samples(release))
    summaries: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    roles_by_stage: dict[str, Any] = {}

    for n, stage in enumerate(params.stages):
        last = n == len(params.stages) - 1
        target = output / ("model" if last else "base" if n == 0 else f"stages/{stage.name}")
        record_file = output / f"stage-{n}.json"
        if record_file.is_file():
            record = read_json(record_file)
            summaries[stage.name], roles_by_stage[stage.name] = record["plan"], record["roles"]
            metrics |= {f"{stage.name}/{k}": v for k, v in record["metrics"].items()}
            source = target
            continue
        if n == 0:
            start = base(params)
            language, vision = start["language"], start["vision"]
            vlm = build(start["family"], start["preset"], seed=seed, home=home, language=language, vision=vision)
            model = cast_language(vlm.model.prepare(vlm.reader.tokenizer), dtype).to(device)
        else:
            model = load_model(source, params.dtype, device, train=True)
        by_image = select(release_samples, stage, seed)
        frozen = stage.learning_rates.get("vision", 0.0) == 0.0
        cache = home / "features" if params.cache_features and frozen else None
        history = History(output / "history.jsonl", stage.name, log)
        planned, validation = None, []
        if stage.objective == "embedding":
            images = [group[0].images[0] for group in by_image.values()]
        else:
            planned = plan(by_image, model.chat, stage, seed)
            packer = Packer(select(release_samples, stage, seed, "validation"), model.chat, stage, seed)
            held_out = list(packer.by_image)[:VALIDATION_IMAGES]
            validation = [row for image in held_out if (row := packer.row(image, 0)) is not None]
            images = [row.image for row in itertools.chain(*planned.batches, validation)]
        if processes > 1 and rank > 0:
            torch.distributed.barrier()  # the first process fills the cache
        features = Features(model, release, images, cache)
        if processes > 1 and rank == 0:
            torch.distributed.barrier()
        if planned is None:
            engines.groups(model, stage)
            history.forget(0)
            summary = align(model, features, by_image, stage, seed, history.record if rank == 0 else _ignore)
            state, measured = model.state_dict(), {"cell_accuracy": summary["cell_accuracy"]}
        else:
            summary = planned.describe()
            engine = engines.build(model, stage, params, root)
            folder = output / "checkpoints" / stage.name
            forget = history.forget if rank == 0 else _ignore
            measured = train(engine, features, planned, stage, seed, folder, history.record, forget, validation)
            state = engine.state_dict()
        counts = role_table(model, stage)
        if rank == 0:
            partial = target.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            model.save_pretrained(partial, state_dict=state)
            model.chat.tokenizer.save_pretrained(partial)
            shutil.rmtree(target, ignore_errors=True)
            os.replace(partial, target)
            final = {f"final_{k}": v for k, v in history.last().items() if k in ("loss", "validation_loss")}
            write_json(record_file, {"plan": summary, "roles": counts, "metrics": {**steady(measured), **final}})
            done = read_json(record_file)
            speed = {f"{stage.name}/{k}": v for k, v in measured.items()}
            metrics |= speed | {f"{stage.name}/{k}": v for k, v in done["metrics"].items()}
            summaries[stage.name], roles_by_stage[stage.name] = done["plan"], done["roles"]
        if processes > 1:
            torch.distributed.barrier()
        source = target
        del model

    if rank > 0:
        return {}
    write_json(output / "plan.json", summaries)
    write_json(output / "roles.json", roles_by_stage)
    shutil.rmtree(output / "checkpoints", ignore_errors=True)
    summary = {
        "counts": {"in": len(release_samples), "out": len(release_samples), "rejected": {}},
        "metrics": metrics,
        "details": {"plan": summaries, "roles": roles_by_stage, "base": base(params)},
    }
    if processes > 1:
        write_json(output / "summary.json", summary)
    return summary


def base(params: Params) -> dict[str, str]:
    """Family, preset and weights that tuning starts from."""
    from vistune.models import family

    name = params.preset or next(iter(family(params.family).presets))
    preset = family(params.family).preset(name)
    return {
        "family": params.family,
        "preset": name,
        "vision": params.vision or preset.vision,
        "language": params.language or preset.language,
    }


def steady(measured: dict[str, float]) -> dict[str, float]:
    """Without timings: what two runs with one seed share."""
    return {k: v for k, v in measured.items() if "second" not in k}


def role_table(model: Any, stage: StageParams) -> dict[str, dict[str, Any]]:
    """Parameters and peak learning rate per role."""
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    return {
        role: {"parameters": sum(sizes[n] for n in names), "learning_rate": stage.learning_rates.get(role, 0.0)}
        for role, names in model.roles().items()
    }


class History:
    """history.jsonl: one line per step of every stage, without timings."""

    def __init__(self, path: Path, stage: str, log: Callable[[dict[str, float], int], None]) -> None:
        self.path, self.stage, self.log = path, stage, log

    def record(self, metrics: dict[str, float], step: int) -> None:
        with open(self.path, "a", encoding="utf-8") as f:
            f.write(json.dumps({"stage": self.stage, "step": step, **metrics}) + "\n")
        self.log({f"{self.stage}/{k}": v for k, v in metrics.items()}, step)

    def entries(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]  # a torn last line never counted

    def forget(self, step: int) -> None:
        """Drops what this stage recorded from `step` on: a resumed run will write it again."""
        kept = [e for e in self.entries() if e["stage"] != self.stage or e["step"] < step]
        write_text(self.path, "".join(json.dumps(e) + "\n" for e in kept))

    def last(self) -> dict[str, Any]:
        mine = [e for e in self.entries() if e["stage"] == self.stage]
        return mine[-1] if mine else {}


def main() -> None:
    """One process of a torchrun launch; argv[1] is the job file."""
    job = read_json(Path(sys.argv[1]))
    params = parse(Params, job["params"], "tune")
    release, output, home, root = (Path(job[k]) for k in ("release", "output", "home", "root"))
    work(params, release, output, job["seed"], home, root, _ignore)


def _ignore(*_: Any) -> None:
    """The other processes record nothing."""


if __name__ == "__main__":
    main()
