"""`make pipeline-run`: runs the instruction-tuning pipeline on this machine, or on the cluster KFP_ENDPOINT names.

Exit status: 0 the tuned model passed, 2 it failed, 3 the evidence is inconclusive, 1 an error.
"""

import argparse
import contextlib
import os
import re
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from vistune import runs, stages, tracking
from vistune.component import literal
from vistune.errors import VistuneError
from vistune.params import resolve


def here(tree: dict) -> int:
    """Runs the pipeline with kfp.local, one subprocess a step, in this virtual environment."""
    start = time.monotonic()
    folder = runs.create()
    parent = runs.Parent(folder.name, {"vistune.run": folder.name}) if tracking.enabled() else None
    status = "FAILED"
    metrics: dict[str, float] = {}
    tags: dict[str, str] = {}
    try:
        import instruction_tuning
        from kfp import local

        # The default image is not called python, and need not be: steps run in this environment.
        warnings.filterwarnings("ignore", message=r"You may be attemping to run a task that uses custom", module="kfp")
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "kfp"), raise_on_error=True)
        pipeline = instruction_tuning.build(None)
        mlflow_run = parent.run_id() if parent else ""
        _environment(mlflow_run)
        print(f"run {folder.name}", flush=True)
        _run(pipeline, tree, folder)
        finished = runs.collect(folder / "kfp")
        verdict, text = runs.conclude(folder, tree, finished, mlflow_run)
        print(f"\n{text}\n{time.monotonic() - start:.0f} s in all", flush=True)
        status, tags = "FINISHED", {"vistune.verdict": verdict}
        metrics = {"seconds": time.monotonic() - start}
        return runs.EXIT[verdict]
    except KeyboardInterrupt:
        status = "KILLED"
        print("\ninterrupted; run again to go on from the last finished stage", file=sys.stderr)
        return 130
    finally:
        if parent:
            parent.end(status, metrics, tags)


def _run(pipeline: Callable, tree: dict, folder: Path) -> None:
    with open(folder / "pipeline.log", "w", encoding="utf-8") as log:
        try:
            with contextlib.redirect_stdout(runs.Console(sys.stdout, log)):
                pipeline(params=literal(tree))
        except RuntimeError as error:  # all that kfp.local says of a failed task
            log.write(f"{error}\n")
            failed = re.search(r"Inner task failed: '([^']+)'", re.sub(r"\x1b\[\d+m", "", str(error)))
            raise VistuneError(
                f"stage {failed.group(1).replace('-', '_') if failed else '?'} stopped; the reason is above and in "
                f"{folder / 'pipeline.log'}. Run the same command again: finished stages are not repeated."
            ) from error


def _environment(mlflow_run: str) -> None:
    """What the steps' processes inherit."""
    os.environ["VISTUNE_ROOT"] = str(stages.repository().resolve())
    os.environ["VISTUNE_HOME"] = str(stages.home())
    os.environ["PYTHONUNBUFFERED"] = "1"  # progress appears when it happens
    os.environ.pop("MLFLOW_RUN_ID", None)  # the parent has adopted it; a step gets a nested run
    if mlflow_run:
        os.environ["VISTUNE_PARENT_RUN"] = mlflow_run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), metavar="FILE")
    parser.add_argument("--overlay", type=Path, action="append", default=[], metavar="FILE")
    parser.add_argument("--set", dest="assign", action="append", default=[], metavar="STAGE.KEY=VALUE")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    options = parser.parse_args()
    try:
        tree = resolve(options.params, options.overlay, options.assign)
        stages.Settings.parse(tree)
        if os.environ.get("KFP_ENDPOINT"):
            import submit

            return submit.there(tree)
        return here(tree)
    except VistuneError as error:
        if options.debug:
            raise
        print(f"vistune: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
