"""What vistune costs beside the work: `vistune --help`, and a pipeline run in which nothing changed.

Prints one JSON line. The run uses the tests' quick stages, so that only the machinery is measured: kfp.local's
processes, digests, MLflow.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def seconds(command: list[str], environment: dict[str, str], times: int) -> tuple[float, float]:
    """Best wall time and its CPU time (all child processes) of `times` runs of a command."""
    best = (float("inf"), 0.0)
    for _ in range(times):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
        wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        best = min(best, (wall, cpu))
    return best


def main() -> None:
    plain = dict(os.environ)
    help_wall, _ = seconds([sys.executable, "-m", "vistune.cli", "--help"], plain, 5)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "params.yaml").write_text("seed: 3\n")
        (Path(folder) / "eval").mkdir()
        quick = {
            **plain,
            "PYTHONPATH": f"{ROOT / 'tests' / 'fake_stages'}{os.pathsep}{ROOT}",
            "VISTUNE_ROOT": folder,
            "VISTUNE_HOME": f"{folder}/home",
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        }
        run = [sys.executable, str(ROOT / "pipelines" / "run.py"), "--params", f"{folder}/params.yaml"]
        seconds(run, quick, 1)
        rerun_wall, rerun_cpu = seconds(run, quick, 3)
    print(
        json.dumps(
            {
                "bench": "overhead",
                "help_s": round(help_wall, 3),
                "rerun_wall_s": round(rerun_wall, 2),
                "rerun_cpu_s": round(rerun_cpu, 2),
                "limits": {"help_s": 0.4, "rerun_cpu_s": 15.0},
            }
        )
    )


if __name__ == "__main__":
    main()
