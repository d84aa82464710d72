"""`make pipeline-run`: runs a pipeline on this machine, or on the cluster that KFP_ENDPOINT names.

Exit status: 0 the tuned model passed, 2 it failed, 3 the evidence is inconclusive, 1 an error. A pipeline that promotes
nothing ends with 0, unless --argument require_pass=true asks for the verdict.
"""

import argparse
import contextlib
import os
import re
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from vistune import preflight, runs, stages, tracking
from vistune.component import literal
from vistune.errors import VistuneError
from vistune.params import resolve


def here(name: str, tree: dict, given: Mapping[str, str]) -> int:
    """Runs the pipeline with kfp.local, one subprocess a step, in this virtual environment."""
    start = time.monotonic()
    folder = runs.create()
    parent = runs.Parent(folder.name, {"vistune.run": folder.name}) if tracking.enabled() else None
    status = "FAILED"
    metrics: dict[str, float] = {}
    tags: dict[str, str] = {}
    try:
        import compiling
        from kfp import local

        # The default image is not called python, and need not be: steps run in this environment.
        warnings.filterwarnings("ignore", message=r"You may be attemping to run a task that uses custom", module="kfp")
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "kfp"), raise_on_error=True)
        pipeline = compiling.build(name, None)
        values = arguments(pipeline, given)
        required = values.pop("require_pass", False)  # here the exit status says it, and no step has to fail
        mlflow_run = parent.run_id() if parent else ""
        _environment(mlflow_run)
        print(f"run {folder.name}", flush=True)
        _run(pipeline, tree, folder, values)
        finished = runs.collect(folder / "kfp")
        verdict, text = runs.conclude(folder, tree, finished, mlflow_run)
        print(f"\n{text}\n{time.monotonic() - start:.0f} s in all", flush=True)
        status, tags = "FINISHED", {"vistune.verdict": verdict} if verdict else {}
        metrics = {"seconds": time.monotonic() - start}
        return runs.EXIT[verdict] if verdict and (required or "promote" in finished) else 0
    except KeyboardInterrupt:
        status = "KILLED"
        print("\ninterrupted; run again to go on from the last finished stage", file=sys.stderr)
        return 130
    finally:
        if parent:
            parent.end(status, metrics, tags)


def arguments(pipeline: Any, given: Mapping[str, str]) -> dict[str, Any]:
    """The values of a pipeline's own parameters, each of its type. Raises VistuneError for one that it has not, for
    one of another type, and when one without a default is missing."""
    inputs = {name: spec for name, spec in pipeline.component_spec.inputs.items() if name != "params"}
    values: dict[str, Any] = {}
    for name, text in given.items():
        if name not in inputs:
            raise VistuneError(f"this pipeline has no argument {name!r}; expected some of {', '.join(inputs)}.")
        wanted = TYPES[inputs[name].type]
        values[name] = text if wanted is str else yaml.safe_load(text)
        if type(values[name]) is not wanted:
            raise VistuneError(f"argument {name} is {text!r}; expected {wanted.__name__}.")
    if missing := [name for name, spec in inputs.items() if not spec.optional and name not in values]:
        raise VistuneError(f"this pipeline needs --argument {'=... --argument '.join(missing)}=...")
    return values


def _run(pipeline: Callable, tree: dict, folder: Path, values: Mapping[str, Any]) -> None:
    with open(folder / "pipeline.log", "w", encoding="utf-8") as log:
        console = runs.Console(sys.stdout, log)
        try:
            with contextlib.redirect_stdout(console), _interrupts(console):
                pipeline(params=literal(tree), **values)
        except RuntimeError as error:  # all that kfp.local says of a failed task
            log.write(f"{error}\n")
            failed = re.search(r"Inner task failed: '([^']+)'", re.sub(r"\x1b\[\d+m", "", str(error)))
            raise VistuneError(
                f"stage {failed.group(1).replace('-', '_') if failed else '?'} stopped; the reason is above and in "
                f"{folder / 'pipeline.log'}. Run the same command again: finished stages are not repeated."
            ) from error


@contextlib.contextmanager
def _interrupts(console: runs.Console) -> Iterator[None]:
    """Python drops an interrupt that comes in a destructor or a callback, as there are when kfp starts a process: such
    a one acts at the next line of output, at the latest at the end."""

    def interrupt(*_: object) -> None:
        console.interrupted = True
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before == signal.SIG_IGN:  # a job in the background, which the terminal's Ctrl-C is not meant for
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
        console.check()
    finally:
        signal.signal(signal.SIGINT, before)


def _environment(mlflow_run: str) -> None:
    """What the steps' processes inherit."""
    os.environ["VISTUNE_ROOT"] = str(stages.repository().resolve())
    os.environ["VISTUNE_HOME"] = str(stages.home())
    os.environ["PYTHONUNBUFFERED"] = "1"  # progress appears when it happens
    os.environ.pop("MLFLOW_RUN_ID", None)  # the parent has adopted it; a step gets a nested run
    if mlflow_run:
        os.environ["VISTUNE_PARENT_RUN"] = mlflow_run


DATA = ("sources", "adapt", "self_instruct", "validate")
STAGES = {  # of each pipeline; kfp, which its file imports, takes seconds
    "instruction_tuning": (*DATA, "tune", "evaluate", "promote", "report"),
    "data_only": DATA,
    "evaluate_only": ("sources", "evaluate"),
    "promote_only": ("promote",),
    "sweep": (*DATA, "tune", "evaluate", "promote"),
}
NAMES = tuple(STAGES)

TYPES: dict[str, type] = {"String": str, "Integer": int, "Boolean": bool, "List": list, "Dict": dict}
"""Of a parameter, by Kubeflow's name for it."""


def pair(text: str) -> tuple[str, str]:
    """
    >>> pair("base=models:/demo@champion")
    ('base', 'models:/demo@champion')
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="instruction_tuning", metavar="NAME", help="a file in pipelines/")
    parser.add_argument(
        "--argument",
        type=pair,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the pipeline's own, e.g. model=models:/demo@champion for evaluate_only",
    )
    parser.add_argument(
        "--schedule", default="", metavar="CRON", help="on KFP_ENDPOINT: six fields, e.g. '0 0 2 * * 1'"
    )
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), metavar="FILE")
    parser.add_argument("--overlay", type=Path, action="append", default=[], metavar="FILE")
    parser.add_argument("--set", dest="assign", action="append", default=[], metavar="STAGE.KEY=VALUE")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    options = parser.parse_args()
    try:
        name, given = options.pipeline, dict(options.argument)
        if name not in NAMES:
            raise VistuneError(f"there is no pipeline {name!r}; expected one of {', '.join(NAMES)}.")
        tree = resolve(options.params, options.overlay, options.assign)
        stages.Settings.parse(tree)
        there = bool(os.environ.get("KFP_ENDPOINT"))
        needs = preflight.needs_here(STAGES[name]) if there else preflight.Needs(stages=STAGES[name])
        preflight.require(tree, needs, parameters_alone=there)
        if there:
            import submit

            return submit.there(name, tree, given, options.schedule)
        if options.schedule:
            raise VistuneError("--schedule needs a cluster: set KFP_ENDPOINT.")
        return here(name, tree, given)
    except VistuneError as error:
        if options.debug:
            raise
        print(f"vistune: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
