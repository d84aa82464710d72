"""Arrows point one way, and what is heavy is imported late."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from vistune.stages import STAGES

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "vistune").rglob("*.py"))
HEAVY = (
    "torch",
    "transformers",
    "pandas",
    "pyarrow",
    "PIL",
    "mlflow",
    "dvc",
    "kfp",
    "lm_eval",
    "openai",
    "jinja2",
    "kubernetes",
)


def imported(path: Path, top: bool = False) -> set[str]:
    """Dotted names that a file imports, anywhere or at its top level only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set()
    for node in tree.body if top else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def packages(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_arrows(path):
    names = imported(path)
    where = path.relative_to(ROOT / "vistune")
    assert "kfp" not in packages(names)
    if where.parts[0] != "tracking":
        assert "mlflow" not in packages(names)
    if where.name != "lineage.py":
        assert "dvc" not in packages(names)
    if where.parts[0] in STAGES:
        others = {f"vistune.{stage}" for stage in STAGES if stage not in ("sources", where.parts[0])}
        met = {name for name in names if any(name == o or name.startswith(f"{o}.") for o in others)}
        assert not met, "stages meet in records, store and files on disk"
    if where.parts[0] in ("models", "records.py", "store.py", "files.py", "hashing.py", "params.py"):
        assert not {n for n in names if n.startswith("vistune.") and n.split(".")[1] in STAGES}


def test_no_stage_reaches_another_through_what_all_share():
    """A module that stands beside the stages and imports one of them serves those who run them, not a stage."""
    names = {
        ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): imported(p, top=True)
        for p in FILES
    }

    def stage(name):
        first = name.split(".")[1] if name.startswith("vistune.") else ""
        return first if first in STAGES and first != "sources" else ""

    def reached(name):
        met, new = set(), [name]
        while new:
            found = {n for n in names.get(new.pop(), ()) if n in names and n not in met and n != "vistune.stages"}
            met |= found
            new += [n for n in found if not stage(n)]
        return met

    for name in names:
        if stage(name):
            assert {stage(n) for n in reached(name)} <= {"", stage(name)}, name


@pytest.mark.parametrize("path", sorted(ROOT.glob("components/*/component.py")), ids=lambda p: p.parent.name)
def test_components_import_only_kfp_and_the_standard_library(path):
    assert packages(imported(path, top=True)) - {"kfp"} <= sys.stdlib_module_names


def test_files_stay_readable():
    long = {str(p.relative_to(ROOT)): n for p in FILES if (n := len(p.read_text().splitlines())) > 400}
    assert not long


@pytest.mark.parametrize("modules", [["vistune.cli"], ["vistune.component"], [f"vistune.{s}" for s in STAGES]], ids=str)
def test_light_imports(modules):
    code = f"import sys, {', '.join(modules)}; print(*(m for m in {HEAVY} if m in sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).split() == []


def test_entry_folders_hold_no_packages():
    for folder in ("components", "pipelines", "eval", "bench"):
        assert not list((ROOT / folder).rglob("__init__.py"))


def test_one_component_per_stage():
    found = {p.parent.name for p in ROOT.glob("components/*/component.py")}
    assert found == {*STAGES, "preflight", "resolve", "fetch", "best", "verdict", "cleanup"}
