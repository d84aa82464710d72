"""The runner: reuse by digest, reruns when anything changed, crashes, tampering."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vistune import stages
from vistune.errors import VistuneError
from vistune.files import files_under, tree_digest
from vistune.stages import Settings, execute, receipt

RUN = """
import sys
from pathlib import Path
from vistune.stages import Settings, execute
tree = {"seed": 3, "sources": {"kill_once": sys.argv[1]}}
done = execute("sources", Settings.parse(tree), {}, Path(sys.argv[2]))
assert "mlflow" not in sys.modules
print(done.digest, done.cached)
"""


def settings(**sections) -> Settings:
    return Settings.parse({"seed": 3, **sections})


def calls(monkeypatch: pytest.MonkeyPatch, stage: str) -> list[int]:
    """Counts how often the stage's code really runs."""
    module, seen = stages.module(stage), []
    real = module.run

    def run(*arguments):
        seen.append(1)
        return real(*arguments)

    monkeypatch.setattr(module, "run", run)
    return seen


def chain(base: Path, made: Settings) -> dict[str, Path]:
    for stage in ("sources", "adapt"):
        execute(stage, made, {"sources": base / "sources"}, base / stage)
    return {stage: base / stage for stage in ("sources", "adapt")}


def test_equal_data_gives_an_equal_receipt(fake_stages, tmp_path):
    """What depends on the clock is beside it, and comes back with the metrics."""
    first = execute("sources", settings(), {}, tmp_path / "a")
    shutil.rmtree(stages.home() / "stages")
    second = execute("sources", settings(), {}, tmp_path / "b")
    assert not second.cached
    assert (tmp_path / "a" / stages.RECEIPT).read_bytes() == (tmp_path / "b" / stages.RECEIPT).read_bytes()
    assert first.metrics["clock"] != second.metrics["clock"] == receipt(tmp_path / "b").metrics["clock"]
    assert second.metrics["read"] == first.metrics["read"]


def test_equal_inputs_are_not_run_again(fake_stages, tmp_path, monkeypatch):
    seen = calls(monkeypatch, "sources")
    first = execute("sources", settings(), {}, tmp_path / "a")
    again = execute("sources", settings(), {}, tmp_path / "b")
    assert len(seen) == 1
    assert (first.cached, again.cached) == (False, True)
    assert first.digest == again.digest == tree_digest(tmp_path / "b", (stages.RECEIPT, stages.EXECUTION))


def test_a_file_under_the_output_is_not_a_reason_to_skip(fake_stages, tmp_path, monkeypatch):
    seen = calls(monkeypatch, "sources")
    execute("sources", settings(), {}, tmp_path / "out")
    done = execute("sources", settings(sources={"rows": 7}), {}, tmp_path / "out")
    assert len(seen) == 2
    assert not done.cached
    assert len((tmp_path / "out" / "rows.txt").read_text().splitlines()) == 7


@pytest.mark.parametrize("change", [{"seed": 4}, {"sources": {"rows": 4}}])
def test_changed_parameters_rerun_and_so_does_what_follows(fake_stages, tmp_path, monkeypatch, change):
    chain(tmp_path / "a", settings())
    seen = calls(monkeypatch, "adapt")
    chain(tmp_path / "b", Settings.parse({"seed": 3} | change))
    assert len(seen) == 1


def test_another_stages_parameters_do_not_matter(fake_stages, tmp_path, monkeypatch):
    execute("sources", settings(), {}, tmp_path / "a")
    assert execute("sources", settings(adapt={"rows": 9}), {}, tmp_path / "b").cached


def test_equal_output_of_a_changed_stage_stops_the_reruns(fake_stages, tmp_path, monkeypatch):
    chain(tmp_path / "a", settings())
    seen = calls(monkeypatch, "adapt")
    chain(tmp_path / "b", settings(sources={"note": "this changes the key, not the files"}))
    assert not seen


def test_a_users_own_files_belong_to_the_key(fake_stages, tmp_path, monkeypatch):
    content = ["first"]
    monkeypatch.setattr(stages.module("sources"), "fingerprint", lambda params: content[0], raising=False)
    execute("sources", settings(), {}, tmp_path / "a")
    assert execute("sources", settings(), {}, tmp_path / "a").cached
    content[0] = "second"
    assert not execute("sources", settings(), {}, tmp_path / "a").cached


def test_gates_and_reports_always_run(fake_stages, tmp_path, monkeypatch):
    inputs = {}
    for stage in ("sources", "adapt", "self_instruct", "validate", "tune", "evaluate"):
        execute(stage, settings(), inputs, tmp_path / stage)
        inputs[stage] = tmp_path / stage
    seen = calls(monkeypatch, "promote")
    for _ in range(2):
        assert not execute("promote", settings(), inputs, tmp_path / "promote").cached
    assert len(seen) == 2


def test_tampered_result_is_made_again(fake_stages, tmp_path, monkeypatch):
    first = execute("sources", settings(), {}, tmp_path / "out")
    seen = calls(monkeypatch, "sources")
    (tmp_path / "out" / "rows.txt").write_text("changed through the hard link\n")
    second = execute("sources", settings(), {}, tmp_path / "out")
    assert len(seen) == 1
    assert second.digest == first.digest


def test_tampered_input_is_refused(fake_stages, tmp_path):
    execute("sources", settings(), {}, tmp_path / "sources")
    shutil.copytree(tmp_path / "sources", tmp_path / "copy")
    (tmp_path / "copy" / "rows.txt").write_text("changed\n")
    with pytest.raises(VistuneError, match=r"copy was changed after stage sources wrote it.*vistune sources"):
        execute("adapt", settings(), {"sources": tmp_path / "copy"}, tmp_path / "adapt")


def test_a_copy_with_other_times_is_accepted(fake_stages, tmp_path):
    """As from an object store or `dvc pull`: same bytes, new times, and no record of the execution."""
    execute("sources", settings(), {}, tmp_path / "sources")
    shutil.copytree(tmp_path / "sources", tmp_path / "copy", copy_function=shutil.copyfile)
    (tmp_path / "copy" / stages.EXECUTION).unlink()
    done = execute("adapt", settings(), {"sources": tmp_path / "copy"}, tmp_path / "adapt")
    assert done.inputs["sources"] == receipt(tmp_path / "sources").digest


def test_unfinished_input_is_refused(fake_stages, tmp_path):
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "rows.txt").write_text("half of the r")
    with pytest.raises(VistuneError, match="holds no finished stage output"):
        execute("adapt", settings(), {"sources": tmp_path / "half"}, tmp_path / "adapt")


def test_kill_in_the_middle_then_the_same_command(fake_stages, tmp_path, own_home):
    command = [sys.executable, "-c", RUN, str(tmp_path / "killed"), str(tmp_path / "out")]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.returncode == -signal.SIGKILL, first.stderr
    assert not (tmp_path / "out").exists()
    (half,) = (own_home / "stages" / "sources").glob("*.partial/rows.txt")
    assert half.read_text() == "half of the r"
    second = subprocess.run(command, capture_output=True, text=True, check=True)
    never_killed = execute("sources", settings(), {}, tmp_path / "other")
    assert second.stdout.split() == [never_killed.digest, "False"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[1] == "True"
    assert not list((own_home / "stages" / "sources").glob("*.partial"))


def test_two_processes_run_a_stage_once(fake_stages, tmp_path, monkeypatch):
    seen = calls(monkeypatch, "sources")
    made = settings()
    threads = [threading.Thread(target=execute, args=("sources", made, {}, tmp_path / f"out{n}")) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 1
    assert len({tree_digest(tmp_path / f"out{n}", (stages.EXECUTION,)) for n in range(4)}) == 1


def test_failed_stage_leaves_nothing_under_a_final_name(fake_stages, tmp_path, own_home):
    with pytest.raises(VistuneError, match="no such file"):
        execute("sources", settings(sources={"fail": "no such file x.json"}), {}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not [
        p for p in (own_home / "stages" / "sources").iterdir() if p.is_dir() and not p.name.endswith(".partial")
    ]


def test_missing_input_is_named(fake_stages, tmp_path):
    with pytest.raises(VistuneError, match="stage validate needs the output of adapt, self_instruct"):
        execute("validate", settings(), {"sources": tmp_path}, tmp_path / "out")


def test_receipt_of_data_is_a_function_of_the_data(fake_stages, tmp_path, monkeypatch):
    """Two machines that compute the same data write the same bytes, but for execution.json."""
    homes = []
    for name in ("one", "two"):
        monkeypatch.setenv("VISTUNE_HOME", str(tmp_path / name))
        execute("sources", settings(), {}, tmp_path / f"{name}-out")
        homes.append({p.name: p.read_bytes() for p in files_under(tmp_path / f"{name}-out")})
    one, two = homes
    assert one.pop(stages.EXECUTION) != two.pop(stages.EXECUTION)
    assert one == two


CODE = """
import sys
from vistune import stages
print(stages.code_digest("adapt"))
"""


def test_code_digest_follows_imports_and_nothing_else(tmp_path):
    package = tmp_path / "vistune"
    source = Path(stages.__file__).parent
    package.mkdir()
    for file in source.glob("*.py"):
        shutil.copy(file, package)
    (package / "adapt").mkdir()
    (package / "adapt" / "__init__.py").write_text(
        "from typing import TYPE_CHECKING\nfrom vistune.store import write_samples\n"
        "if TYPE_CHECKING:\n    from vistune.stages import Context\n"
    )

    def now() -> str:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "VISTUNE_ROOT": str(tmp_path)}
        return subprocess.check_output([sys.executable, "-c", CODE], env=environment, cwd=tmp_path, text=True)

    def touch(name: str) -> None:
        (package / name).write_text((package / name).read_text() + "\n# changed\n")

    first = now()
    touch("cli.py")
    touch("stages.py")  # imported for types only
    assert now() == first
    touch("hashing.py")  # store -> records -> hashing
    second = now()
    assert second != first
    (package / "adapt" / "templates.yaml").write_text("a: 1")
    assert now() not in (first, second)
