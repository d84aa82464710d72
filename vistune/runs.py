"""A pipeline run on this machine: its folder, its console, its parent MLflow run, its result.

`runs/<id>/` holds pipeline.log (everything the steps printed), run.json (what ran and what came of it), report.html and
each stage's output under its name; `runs/latest` points to the newest. Nothing here knows Kubeflow: pipelines/run.py
does the running.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from vistune.component import BEGIN
from vistune.errors import VistuneError
from vistune.files import link_file, read_json, write_json
from vistune.stages import RECEIPT, STAGES, Settings, receipt, repository
from vistune.summary import counts_line

EXIT = {"pass": 0, "fail": 2, "inconclusive": 3}
"""Exit status of a finished run by verdict; 1 is an error."""

NOISE = re.compile(r"^(\[KFP Executor |\d\d:\d\d:\d\d\.\d{3} - (INFO|ERROR) - )")
"""What kfp says around a step's own words. Its warnings are not noise: they are all it says of a broken condition."""

WARNING = re.compile(r"^(WARNING:|\d\d:\d\d:\d\d\.\d{3} - WARNING - )")
PROGRESS = re.compile(r"^\S+ +█*·* \d")


def create() -> Path:
    """A new folder under runs/, named by the time and four random digits."""
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = repository().resolve() / "runs" / f"{now}-{secrets.token_hex(2)}"
    folder.mkdir(parents=True)
    latest = folder.parent / "latest"
    latest.unlink(missing_ok=True)
    latest.symlink_to(folder.name)
    return folder


class Console:
    """Stands in for stdout while kfp runs: everything goes to the log, and what the steps themselves print goes to
    the terminal too, progress on one line where it is a terminal."""

    encoding = "utf-8"

    def __init__(self, terminal: TextIO, log: TextIO) -> None:
        self.terminal, self.log = terminal, log
        self.partial, self.speaking, self.overwrite = "", False, False
        self.interrupted = False

    def check(self) -> None:
        """Raises KeyboardInterrupt if one came, and nobody may have seen it."""
        if self.interrupted:
            raise KeyboardInterrupt

    def write(self, text: str) -> int:
        self.check()
        *lines, self.partial = (self.partial + text).split("\n")
        for line in lines:
            self._line(line)
        return len(text)

    def flush(self) -> None:
        self.log.flush()
        self.terminal.flush()

    def isatty(self) -> bool:
        return False

    def _line(self, line: str) -> None:
        self.log.write(line + "\n")
        line = line.removeprefix("    ").rstrip()  # kfp indents what a task prints
        if line.startswith(BEGIN):
            self.speaking = True
        elif NOISE.match(line):
            self.speaking = False
        elif line.startswith("Traceback (most recent call last)"):  # also one from before the step began
            self.speaking = True
        if not line or not (self.speaking or WARNING.match(line)):
            return
        start = "\r\x1b[2K" if self.overwrite else ""
        self.overwrite = self.terminal.isatty() and bool(PROGRESS.match(line))
        self.terminal.write(start + line + ("" if self.overwrite else "\n"))
        self.terminal.flush()


class Parent:
    """The run's parent MLflow run, held open by a process of its own: importing mlflow takes seconds, during which
    this process prepares the pipeline; and if this process dies, the other one marks the run as killed."""

    def __init__(self, name: str, tags: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "vistune.parent", name, json.dumps(dict(tags))]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def run_id(self) -> str:
        """Waits for the run to exist. Raises VistuneError when MLflow refused (the process has said why)."""
        assert self.process.stdout is not None
        found = self.process.stdout.readline().strip()
        if not found:
            raise VistuneError("MLflow could not open the run; the message above says why.")
        return found

    def end(
        self, status: str, metrics: Mapping[str, float] | None = None, tags: Mapping[str, str] | None = None
    ) -> None:
        """status: FINISHED, FAILED or KILLED."""
        message = {"status": status, "metrics": dict(metrics or {}), "tags": dict(tags or {})}
        if self.process.poll() is None:
            self.process.communicate(json.dumps(message) + "\n")


@dataclass(frozen=True)
class Done:
    """One finished stage of a run."""

    stage: str
    folder: str
    counts: str
    seconds: float
    unchanged: bool
    digest: str
    key: str
    mlflow_run: str
    dvc_md5: str


def collect(root: Path) -> dict[str, Done]:
    """The finished stages under a kfp.local pipeline root, from what the executor recorded of each task."""
    found: dict[str, Done] = {}
    chosen: set[str] = set()
    for record in sorted(root.glob("**/executor_output.json")):
        for listed in (read_json(record).get("artifacts") or {}).values():
            for artefact in listed.get("artifacts", []):
                meta, folder = artefact.get("metadata") or {}, Path(artefact.get("uri", ""))
                if "stage" not in meta or not (folder / RECEIPT).is_file():
                    continue
                done = receipt(folder)
                if done.stage in chosen:
                    continue
                if "variant" in meta:  # the one of several that went on
                    chosen.add(done.stage)
                found[done.stage] = Done(
                    done.stage,
                    str(folder),
                    counts_line(done.summary),
                    done.seconds,
                    meta.get("cached") == "true",
                    done.digest,
                    done.key,
                    done.run_id,
                    done.dvc_md5,
                )
    return {stage: found[stage] for stage in STAGES if stage in found}


def table(stages: Mapping[str, Done], width: int = 0) -> str:
    """One line per stage: what went in and out, and how long it took.

    >>> print(table({"adapt": Done("adapt", "", "9 in → 8 out", 3.21, False, "", "", "", "")}, 60))
    adapt           3.2 s      9 in → 8 out
    """
    width = width or shutil.get_terminal_size((120, 24)).columns
    lines = []
    for name, done in stages.items():
        time = "unchanged" if done.unchanged else f"{done.seconds:.1f} s"
        counts = done.counts if len(done.counts) <= width - 27 else done.counts[: width - 28] + "…"
        lines.append(f"{name:<15} {time:<10} {counts}".rstrip())
    return "\n".join(lines)


def conclude(folder: Path, tree: Mapping[str, Any], stages: Mapping[str, Done], mlflow_run: str) -> tuple[str, str]:
    """Writes run.json, report.html where the pipeline has one, and a link to each stage's output under its name;
    returns (verdict, text for the end of the run). The verdict is that of `promote`, else of `evaluate`, else empty."""
    from vistune import lineage, tracking

    promotion: dict[str, Any] = {}
    if "promote" in stages:
        promotion = read_json(Path(stages["promote"].folder) / "promotion.json")
    elif "evaluate" in stages:
        promotion = {"verdict": read_json(Path(stages["evaluate"].folder) / "verdict.json")["verdict"]}
    verdict = promotion.get("verdict", "")
    write_json(
        folder / "run.json",
        {
            "id": folder.name,
            "verdict": verdict,
            "mlflow_run": mlflow_run,
            "params": json.loads(tracking.redact_text(json.dumps(tree))),
            "code": lineage.ids(),
            "stages": {name: asdict(done) for name, done in stages.items()},
        },
    )
    for name, done in stages.items():
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(os.path.relpath(done.folder, folder))
    lines = [table(stages), "", *([f"verdict  {verdict}"] if verdict else [])]
    if promotion.get("model_uri"):
        lines.append(f"model    {promotion['model_uri']} (version {promotion['version']})")
    if "tune" in stages:
        lines.append(f"weights  {_short(folder / 'tune' / 'model')}")
    if "report" in stages:
        report = folder / "report.html"
        report.unlink(missing_ok=True)
        link_file(Path(stages["report"].folder) / "report.html", report)
        lines.append(f"report   {_short(report)}")
    elif "evaluate" in stages:
        lines.append(f"scores   {_short(folder / 'evaluate' / 'scorecard.html')}")
    elif "validate" in stages:
        lines.append(f"release  {_short(folder / 'validate')}")
    if mlflow_run:
        lines.append(f"MLflow   run {mlflow_run} in {tracking.redact_text(tracking.uri())} (make ui)")
    if "sources" in stages:
        lines.append(f"sources  {lineage.track_sources(Path(stages['sources'].folder), Settings.parse(tree))}")
    lines.append(f"log      {_short(folder / 'pipeline.log')}")
    return verdict, "\n".join(lines)


def _short(path: Path) -> str:
    here = Path(os.getcwd())
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
