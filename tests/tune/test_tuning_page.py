"""docs/tuning.md: its commands run, its parameters exist, its table is the one that is printed."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from vistune import cli, stages
from vistune.models import family, lora
from vistune.models.vlm import empty
from vistune.stages import Receipt, Settings, repository
from vistune.tune import Params, StageParams
from vistune.tune.engine import groups
from vistune.tune.roles import lines, table

TEXT = (repository() / "docs/tuning.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.M | re.S)
TABLES = [row for row in TEXT.splitlines() if row.startswith("| ")]
TINY = """
tune:
  preset: tiny
  threads: 1
  stages: [{name: instruct, objective: instruct, steps: 2, batch: 2, learning_rates: {language: 0.004}}]
"""


@pytest.fixture
def folder(release, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs/validate").symlink_to(release)
    (tmp_path / "params.yaml").write_text(TINY)
    return tmp_path


def test_commands(folder, monkeypatch):
    monkeypatch.setattr(stages, "verified", lambda folder: Receipt("validate", "0" * 64, {}))
    (block,) = (block for kind, block in BLOCKS if not kind)
    output = ""
    for line in block.splitlines():
        program, *arguments = shlex.split(line.partition("#")[0])
        done = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
        assert program == "vistune" and done.exit_code == 0
        output += done.output
    assert "stage instruct" in output and "ZeRO 3" in output
    assert (folder / "outputs/tune/model/model.safetensors").is_file()


def test_stages_parse_and_every_parameter_exists():
    (block,) = (block for kind, block in BLOCKS if kind == "yaml")
    tune = Settings.parse(yaml.safe_load(block)).sections["tune"]
    assert tune.preset in family(tune.family).presets and len(tune.stages) == 2
    known = {field.name for kind in (Params, StageParams) for field in fields(kind)}
    for name in re.findall(r"`tune\.(\w+)`", TEXT):
        assert name in known
    packs = TABLES[TABLES.index("| parameter | is |") + 1 :]
    for row in packs[: next(n for n, r in enumerate(packs) if "one CPU or GPU" in r) - 1]:
        assert set(re.findall(r"`(\w+)`", row.split("|")[1])) <= known


@pytest.mark.slow
def test_table_of_roles_is_the_printed_one():
    vlm = empty("llava", "llava-1.5-7b")
    stage = StageParams("instruct", "instruct", {"connector": 2e-5, "language": 2e-4}, lora={"language": 128})
    lora.attach(vlm, stage.lora)
    groups(vlm, stage)
    assert "\n".join(lines("instruct", table(vlm.model, vlm.family, stage))) in TEXT


START = """
import sys
from vistune import cli, stages
stages.verified = lambda folder: stages.Receipt("validate", "0" * 64, {})
cli.app(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["vistune", "torchrun", "deepspeed"])
def test_launchers(folder, launcher):
    """Their lines in the table, on two processes of this machine. The second time there is nothing left to train."""
    (folder / "start.py").write_text(START)
    command = next(c for c in re.findall(r"`([^`]+)`", "\n".join(TABLES)) if c.startswith(launcher) and len(c) > 12)
    command = re.sub(r"-m vistune\.cli|--module vistune\.cli|^vistune", "start.py", command)
    for theirs, here in {
        r"--nnodes 4 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint \S+": "--standalone --nproc-per-node 2",
        r"--hostfile hosts": "--num_accelerators 2",
        r"^start": f"{sys.executable} start",
    }.items():
        command = re.sub(theirs, here, command)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
        "VISTUNE_TRACKING": "off",
    }
    for time in (r"[\d.]+ s", "unchanged"):
        done = subprocess.run(shlex.split(command), env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        # no line's end: the launchers' own lines may come between
        assert re.search(rf"tune: 32 in → 32 out · .*{time}", done.stdout), done.stdout
