"""Every component has its metadata, and a README that is what component.py and metadata.yaml say."""

import ast
import datetime
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(path.parent for path in ROOT.glob("components/*/component.py"))
_spec = importlib.util.spec_from_file_location("readme", ROOT / "components" / "readme.py")
readme = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(readme)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_the_readme_is_up_to_date(folder):
    assert (folder / "README.md").read_text() == readme.readme(folder), "run `make readmes`"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_metadata(folder):
    found = readme.metadata(folder)
    assert found["name"] == folder.name
    assert found["tier"] in ("control", "data", "training", "evaluation", "registry", "reporting")
    assert found["stability"] in ("alpha", "beta", "stable")
    assert isinstance(found["lastVerified"], datetime.date) and found["tags"]
    assert "kfp" in found["dependencies"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_the_readme_names_every_function_and_argument(folder):
    text = (folder / "README.md").read_text()
    for node in readme.functions(folder)[1]:
        assert f"## `{node.name}`" in text
        for argument in node.args.args:
            row = next(line for line in text.splitlines() if line.startswith(f"| `{argument.arg}` |"))
            assert row.split("|")[3].strip(), f"{node.name}.{argument.arg} is not explained"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_the_top_level_imports_only_kfp_and_the_standard_library(folder):
    """The file is loaded where pipelines are compiled, without the package that its bodies call."""
    for node in ast.parse((folder / "component.py").read_text()).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert all(n.partition(".")[0] in {"kfp", *sys.stdlib_module_names} for n in names)


def test_check_finds_what_is_stale(tmp_path):
    shutil.copytree(ROOT / "components", tmp_path / "components", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, str(tmp_path / "components/readme.py")]
    assert subprocess.run([*command, "--check"], check=False).returncode == 0
    source = tmp_path / "components/adapt/component.py"
    source.write_text(source.read_text().replace("Annotated images.", "Images with annotations."))
    done = subprocess.run([*command, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "not up to date: adapt. Run `make readmes`.\n")
    assert subprocess.run(command, check=False).returncode == 0
    assert "Images with annotations." in (tmp_path / "components/adapt/README.md").read_text()
