"""The stages, and the one way to run them.

A stage is a function `run(params, inputs, output, context) -> summary` in its own package; its summary has counts,
metrics, details, and in `measured` the metrics that another execution would not repeat. `execute` wraps it for
every door (command line, DVC, Kubeflow): it computes a key from the digests of inputs, parameters and code, reuses
a finished result with that key, and otherwise runs the stage in `<key>.partial`, which survives a crash and is
renamed when complete. Nothing half-written is ever under a final name.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import fcntl
import importlib
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.files import files_under, link_tree, read_json, tree_digest, write_json
from vistune.hashing import digest, file_digest
from vistune.params import parse, refuse_secrets, unknown
from vistune.pins import held, tracked

RECEIPT = "receipt.json"
"""What an output is: stage, digest, summary. Equal data gives an equal receipt, so DVC tracks it with the data."""

EXECUTION = "execution.json"
"""How an output came to be: key, parameters, code, seconds, MLflow run. Differs between executions; not tracked."""


@dataclass(frozen=True)
class Stage:
    inputs: tuple[str, ...]
    help: str
    cached: bool = True
    reads: tuple[str, ...] = ()  # folders of the repository beside the package that belong to the code
    data: bool = False  # its output is a data set whose DVC md5 belongs to the lineage
    tracked: bool = True  # an execution is an MLflow run


STAGES: dict[str, Stage] = {
    "sources": Stage((), "Compose the demo corpus, or collect your own annotated images.", data=True),
    "adapt": Stage(("sources",), "Turn annotations into (instruction, input, response) samples."),
    "self_instruct": Stage(("sources",), "Ask a teacher for new dialogues about the annotated images."),
    "validate": Stage(("sources", "adapt", "self_instruct"), "Check all samples and build the release.", data=True),
    "tune": Stage(("validate",), "Align the connector, then tune on the instructions."),
    "evaluate": Stage(("sources", "validate", "tune"), "Score base and tuned model zero-shot.", reads=("eval",)),
    "promote": Stage(
        ("sources", "validate", "tune", "evaluate"),
        "Register the model; champion if the gate passes.",
        cached=False,
    ),
    "report": Stage(
        ("sources", "adapt", "self_instruct", "validate", "tune", "evaluate", "promote"),
        "Write one page about the run.",
        cached=False,
        tracked=False,
    ),
}


@dataclass(frozen=True)
class Settings:
    """All parameters of a run: the seed and each stage's own dataclass."""

    seed: int
    sections: Mapping[str, Any]

    @classmethod
    def parse(cls, tree: Mapping[str, Any]) -> Settings:
        refuse_secrets(tree)
        known = ["seed", *STAGES]
        for key in tree:
            if key not in known:
                raise VistuneError(unknown(key, known))
        seed = parse(int, tree.get("seed", 0), "seed")
        return cls(seed, {s: parse(module(s).Params, tree.get(s), s) for s in STAGES})


@dataclass(frozen=True)
class Context:
    """What a stage gets besides its inputs."""

    seed: int
    home: Path  # shared between runs: request ledgers, converted weights, cached features
    root: Path  # the repository (or the image's copy of it): eval/, infra/
    log: Callable[[Mapping[str, float], int], None] = lambda metrics, step: None  # of a training step, to MLflow
    run_id: str = ""  # MLflow run of this execution; empty when nothing is tracked


@dataclass(frozen=True)
class Receipt:
    """What ran: enough to know that running it again would give the same.

    The fields after `summary` are empty for an output that came from `dvc pull` instead of a local execution.
    """

    stage: str
    digest: str  # of the output's files
    summary: dict[str, Any]
    key: str = ""
    inputs: dict[str, str] = field(default_factory=dict)  # stage -> digest of its output
    params: str = ""
    code: str = ""
    seconds: float = 0.0
    measured: dict[str, float] = field(default_factory=dict)  # metrics that depend on the machine
    run_id: str = ""  # MLflow run of the execution that produced it
    dvc_md5: str = ""  # of a data stage's output, as `dvc add` would record it
    files: dict[str, list[int]] = field(default_factory=dict)  # name -> [size, mtime_ns]
    cached: bool = False  # this execution reused it
    pins: dict[str, str] = field(default_factory=dict)  # parameter -> immutable id of what it names; see `pins`

    @property
    def metrics(self) -> dict[str, float]:
        return {**self.summary.get("metrics", {}), **self.measured}


def module(stage: str) -> Any:
    if stage not in STAGES:
        raise VistuneError(unknown(stage, list(STAGES)))
    return importlib.import_module(f"vistune.{stage}")


def repository() -> Path:
    """Where params.yaml, eval/ and infra/ lie: $VISTUNE_ROOT, else the folder above the package."""
    return Path(os.environ.get("VISTUNE_ROOT") or Path(__file__).resolve().parent.parent)


def home() -> Path:
    """Where finished stages and shared caches lie: $VISTUNE_HOME, else .vistune in the repository."""
    return Path(os.environ.get("VISTUNE_HOME") or repository() / ".vistune").resolve()


def receipt(folder: Path) -> Receipt:
    """The receipt of a stage's output folder. Raises VistuneError when the folder holds no finished output."""
    if not (folder / RECEIPT).is_file():
        raise VistuneError(f"{folder} holds no finished stage output (no {RECEIPT}). Run that stage first.")
    execution = read_json(folder / EXECUTION) if (folder / EXECUTION).is_file() else {}
    return Receipt(**read_json(folder / RECEIPT), **execution)


def verified(folder: Path) -> Receipt:
    """The receipt of a folder whose files are the ones it names. Raises VistuneError when they were changed."""
    found = receipt(folder)
    if not _intact(folder, found):
        raise VistuneError(
            f"{folder} was changed after stage {found.stage} wrote it (its files no longer give digest "
            f"{found.digest[:12]}…). Run `vistune {found.stage}` again to restore it."
        )
    return found


def _intact(folder: Path, found: Receipt) -> bool:
    """Unchanged sizes and times are taken as unchanged files; otherwise the folder is hashed again."""
    return _stats(folder) == found.files or tree_digest(folder, (RECEIPT, EXECUTION)) == found.digest


@cache
def code_digest(stage: str) -> str:
    """Digest of every file the stage's code depends on: its package, what that imports from vistune, and
    the repository folders it reads."""
    package = Path(__file__).resolve().parent
    todo, seen = [f"vistune.{stage}"], set()
    files: set[Path] = set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        base = package.joinpath(*name.split(".")[1:])
        found = files_under(base) if name == f"vistune.{stage}" and base.is_dir() else []
        found += [p for p in (base / "__init__.py", base.with_suffix(".py")) if p.is_file()]
        for path in found:
            if "__pycache__" in path.parts:
                continue
            files.add(path)
            if path.suffix == ".py":
                todo += _imports(path)
    leaves = [(p.relative_to(package).as_posix(), file_digest(p)) for p in sorted(files)]
    for folder in STAGES[stage].reads:
        beside = repository() / folder
        leaves += [
            (f"{folder}/{p.relative_to(beside)}", file_digest(p))
            for p in files_under(beside)
            if "__pycache__" not in p.parts
        ]
    return digest(leaves)


@cache
def _imports(path: Path) -> list[str]:
    """Modules of vistune that a file imports, anywhere but under `if TYPE_CHECKING`."""
    names: list[str] = []
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            todo += node.orelse
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("vistune"):
            names += [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
        elif isinstance(node, ast.Import):
            names += [a.name for a in node.names if a.name.startswith("vistune")]
        else:
            todo += [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr)]
    return names


def execute(
    stage: str,
    settings: Settings,
    inputs: Mapping[str, Path],
    output: Path,
    part: tuple[int, int] | None = None,
    parts: Sequence[Path] = (),
) -> Receipt:
    """Runs `stage` unless a result with the same key exists, and places the result at `output`.

    `inputs` maps each name in `STAGES[stage].inputs` to that stage's output folder. part: (which, of how many) where
    the stage runs in several pods, side by side. parts: the outputs of all of them, of which this makes what one would
    have made; its key is the same.
    """
    spec = STAGES[stage]
    missing = [name for name in spec.inputs if name not in inputs]
    if missing:
        raise VistuneError(f"stage {stage} needs the output of {', '.join(missing)}.")
    folders = {name: Path(inputs[name]) for name in spec.inputs}
    receipts = {name: verified(folder) for name, folder in folders.items()}
    for name, r in receipts.items():
        if r.stage.startswith(f"{name}["):
            raise VistuneError(f"{folders[name]} is only part {r.stage} of stage {name}. Merge all parts first.")
    digests = {name: r.digest for name, r in receipts.items()}
    params = settings.sections[stage]
    if tracked(params):
        from vistune import lineage

        params = lineage.pinned(params)
    ids = held(stage, params)
    params_digest = digest([dataclasses.asdict(params), settings.seed])
    name, work = _work(stage, part, parts)
    unsaid = [[key, text] for key, text in sorted(ids.items()) if "sha256:" in text]  # of folders that params name
    made_of = [name, digests, params_digest, code_digest(stage), outside(stage, params)]
    key = digest([*made_of, unsaid] if unsaid else made_of)[:32]
    check_parts(stage, parts, digests, params_digest)
    store = home() / "stages" / stage
    store.mkdir(parents=True, exist_ok=True)
    final, partial = store / key, store / f"{key}.partial"
    with open(store / f"{key}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{stage}: another process is at it with the same inputs; waiting for its result", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        done = _finished(final) if spec.cached else None
        if done is None:
            if final.exists():
                shutil.rmtree(final)
            if not spec.cached and partial.exists():
                shutil.rmtree(partial)
            partial.mkdir(exist_ok=True)
            for torn in partial.rglob(".*.tmp"):  # an atomic write that a kill interrupted
                torn.unlink()
            with _tracker(stage, name, params, settings.seed, receipts) as tracker:
                start = time.monotonic()
                context = Context(settings.seed, home(), repository(), tracker.log, tracker.run_id)
                given = lineage.fetched(params, home()) if tracked(params) else params
                summary = dict(work(given, folders, partial, context))
                measured = summary.pop("measured", {})
                done = Receipt(
                    name,
                    tree_digest(partial, (RECEIPT, EXECUTION)),
                    summary,
                    key,
                    digests,
                    params_digest,
                    code_digest(stage),
                    round(time.monotonic() - start, 3),
                    measured,
                    tracker.run_id,
                    files=_stats(partial),
                    pins=ids,
                )
                done = _seal(partial, done, STAGES[stage].data)
                tracker.finish(done)
            if spec.cached:  # one flush for thousands of files; what runs every time need not survive a power cut
                os.sync()
            os.replace(partial, final)
    link_tree(final, output)
    if done.cached:  # the report says so
        write_json(output / EXECUTION, {**read_json(output / EXECUTION), "cached": True})
    return done


def _work(stage: str, part: tuple[int, int] | None, parts: Sequence[Path]) -> tuple[str, Callable[..., Any]]:
    """What the result is called, and the function that makes it: of the stage, of a part of it, or of the merger."""
    home = module(stage)
    if part is None and not parts:
        return stage, home.run
    if not hasattr(home, "run_part"):
        raise VistuneError(f"stage {stage} runs in one piece; only adapt and self_instruct have parts.")
    if parts:
        return stage, lambda *given: home.merge(*given, [Path(folder) for folder in parts])
    assert part is not None
    return part_name(stage, *part), lambda *given: home.run_part(*given, part)


def part_name(stage: str, which: int, of: int) -> str:
    """The stage in the receipt of a part, which no other stage takes for a whole output."""
    if not 0 <= which < of:
        raise VistuneError(f"part {which} of {of} of stage {stage}: expected a number from 0 to {of - 1}.")
    return f"{stage}[{which}/{of}]"


def check_parts(stage: str, parts: Sequence[Path], inputs: Mapping[str, str], params: str) -> None:
    """Raises VistuneError unless `parts` are all parts of one execution of `stage`, each once and unchanged."""
    found = [verified(Path(folder)) for folder in parts]
    wanted = [part_name(stage, which, len(found)) for which in range(len(found))]
    if sorted(r.stage for r in found) != sorted(wanted):
        raise VistuneError(
            f"stage {stage} is merged from {', '.join(r.stage for r in found)}; expected each of {', '.join(wanted)}."
        )
    for r in found:
        if (r.inputs, r.params, r.code) != (dict(inputs), params, code_digest(stage)):
            raise VistuneError(
                f"{r.stage} was made from other inputs, parameters or code than this step has. Run all parts again."
            )


def outside(stage: str, params: Any) -> str:
    """Digest of what a stage reads besides its inputs, when it reads such a thing: a user's own files."""
    fingerprint = getattr(module(stage), "fingerprint", None)
    return fingerprint(params) if fingerprint else ""


def _tracker(
    stage: str, name: str, params: Any, seed: int, inputs: Mapping[str, Receipt]
) -> contextlib.AbstractContextManager:
    from vistune import tracking

    if not STAGES[stage].tracked:
        return contextlib.nullcontext(tracking.Tracker())
    dvc = {name: r.dvc_md5 for name, r in inputs.items() if r.dvc_md5}
    return tracking.stage_run(name, params, seed, {name: r.digest for name, r in inputs.items()}, dvc)


def _seal(folder: Path, done: Receipt, data: bool) -> Receipt:
    """Writes receipt and execution beside the output's files; the DVC md5 covers the first and not the second."""
    write_json(folder / RECEIPT, {"stage": done.stage, "digest": done.digest, "summary": done.summary})
    if data:
        from vistune.lineage import dvc_md5

        done = dataclasses.replace(done, dvc_md5=dvc_md5(folder))
    execution = dataclasses.asdict(done)
    for name in ("stage", "digest", "summary", "cached"):
        del execution[name]
    write_json(folder / EXECUTION, execution)
    return done


def _finished(folder: Path) -> Receipt | None:
    """The receipt of a finished result, or None when it is absent or its files are no longer the ones it names."""
    if not (folder / RECEIPT).is_file() or not (folder / EXECUTION).is_file():
        return None
    found = receipt(folder)
    return dataclasses.replace(found, cached=True) if _intact(folder, found) else None


def _stats(folder: Path) -> dict[str, list[int]]:
    stats = ((p.relative_to(folder).as_posix(), p.stat()) for p in files_under(folder))
    return {name: [s.st_size, s.st_mtime_ns] for name, s in stats if name not in (RECEIPT, EXECUTION)}
