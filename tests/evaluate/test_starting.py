"""The stage starts without what answers no question."""

import gc
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vistune.evaluate import starting

PROBE = """
import gc, importlib.util
COLLECTED = gc.isenabled()
FOUND = {name: importlib.util.find_spec(name) is not None for name in ("planted_unused", "numpy")}
"""


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: Any) -> Any:
    """Imports a module of this text in place of the stage, beside a package that is installed and not needed."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "planted_unused.py").write_text("")
    monkeypatch.setattr(starting, "UNUSED", ("planted_unused",))

    def imported(name: str, text: str) -> Any:
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.setattr(starting, "STAGE", (name,))
        return starting.import_stage()

    yield imported
    sys.modules.pop("planted_unused", None)


def test_while_the_stage_is_imported_nobody_finds_what_it_does_not_need(stage: Any) -> None:
    made = stage("probing_stage", PROBE)
    assert made.FOUND == {"planted_unused": False, "numpy": True} and not made.COLLECTED
    assert gc.isenabled() and importlib.util.find_spec("planted_unused") is not None, "afterwards everything is there"
    assert "planted_unused" not in sys.modules


def test_what_cannot_do_without_gets_it(stage: Any) -> None:
    assert stage("needing_stage", "import planted_unused\nNAME = planted_unused.__name__").NAME == "planted_unused"
    with pytest.raises(ImportError, match="no_such_thing"):
        stage("broken_stage", "import no_such_thing")


def test_what_is_there_already_stays(stage: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "planted_unused", "loaded before")
    made = stage("later_stage", "import sys\nSEEN = sys.modules['planted_unused']")
    assert made.SEEN == sys.modules["planted_unused"] == "loaded before"


@pytest.mark.slow
def test_the_stage_itself_leaves_them_out() -> None:
    code = (
        "import sys; from vistune.evaluate.starting import import_stage; import_stage(); print(*sys.modules)\n"
        "from transformers.utils import is_scipy_available; print(is_scipy_available())"
    )
    said = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout
    *imported, found = said.split()
    assert found == "True", "a model that needs it finds it"
    names = set(imported)
    assert {"torch", "transformers.modeling_utils", "lm_eval.tasks", "vistune.evaluate.engine"} <= names
    unused = {*starting.UNUSED, "accelerate.commands.launch", "deepspeed", "kfp", "matplotlib", "mlflow", "peft"}
    assert not unused & names
