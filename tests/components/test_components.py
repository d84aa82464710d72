"""The components' bodies: one call into vistune, with typed inputs and outputs that the KFP UI can show."""

import ast
import importlib.util
import inspect
import json
from pathlib import Path

import pytest
from kfp import dsl

from vistune import component
from vistune.errors import VistuneError
from vistune.stages import STAGES, receipt

ROOT = Path(__file__).parent.parent.parent
ARTEFACT = {"validate": "release", "tune": "model", "evaluate": "scorecard", "promote": "promotion", "report": "files"}
"""What a stage's artefact is called, where not by the stage's own name."""

KINDS = {f"system.{kind.__name__}@0.0.1": kind for kind in (dsl.Metrics, dsl.ClassificationMetrics)}


COMPONENTS = [  # (folder, function) of every component
    (path.parent.name, node.name)
    for path in sorted(ROOT.glob("components/*/component.py"))
    for node in ast.parse(path.read_text()).body
    if isinstance(node, ast.FunctionDef)
]


def load(folder: str, name: str = ""):
    path = ROOT / "components" / folder / "component.py"
    spec = importlib.util.spec_from_file_location(f"component_{folder}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name or folder)


def call(stage: str, base: Path, section: dict | None = None) -> tuple[object, dict]:
    """Calls the component's function as the executor does; returns its value and its output artefacts."""
    made = load(stage)
    spec, named = made.component_spec, {ARTEFACT.get(s, s): s for s in STAGES[stage].inputs}
    inputs = {name: dsl.Artifact(name, str(base / named[name])) for name in spec.inputs if name in named}
    outputs = {}
    for name, output in spec.outputs.items():
        place = str(base / (f"{stage}-{name}" if name in ("metrics", "page", "confusion", "card") else stage))
        if name != "Output":
            outputs[name] = KINDS.get(output.type, dsl.Artifact)(name, place)
    settings = json.dumps({"seed": 3, stage: section or {}})
    return made.python_func(settings=settings, **inputs, **outputs), outputs


@pytest.mark.slow
def test_every_stage_through_its_component(fake_stages, tmp_path):
    verdict, pages = None, {}
    for stage in STAGES:
        value, made = call(stage, tmp_path)
        done = receipt(tmp_path / stage)
        output = made[ARTEFACT.get(stage, "data" if stage == "sources" else "samples")]
        assert output.metadata["digest"] == done.digest
        assert output.metadata["key"] == done.key
        assert set(done.inputs) == set(STAGES[stage].inputs)
        if "metrics" in made:
            assert made["metrics"].metadata["out"] == 3
            assert made["metrics"].metadata["rejected"] == 1
        if "page" in made:
            pages[stage] = Path(made["page"].path).read_text()
        verdict = value if stage == "promote" else verdict
        if stage == "evaluate":
            assert value == "pass"
            assert made["confusion"].metadata["confusionMatrix"]["rows"][0] == {"row": [1, 0, 0]}
        if stage == "promote":
            assert Path(made["card"].path).read_text() == "# fake"
    assert verdict == "pass"
    assert (pages["evaluate"], pages["report"]) == ("<h1>scores</h1>", "<h1>report</h1>")
    assert "loss 0.500" in pages["tune"]
    assert "has no release.json" in pages["validate"], "why there is no sheet"


def test_second_call_says_it_was_reused(fake_stages, tmp_path):
    call("sources", tmp_path)
    _, made = call("sources", tmp_path)
    assert made["data"].metadata["cached"] == "true"


def test_a_users_problem_is_a_paragraph_and_status_1(fake_stages, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        call("sources", tmp_path, {"fail": "the file is missing. Add it."})
    assert stop.value.code == 1
    assert capsys.readouterr().out == "▸ sources\nvistune: the file is missing. Add it.\n"


def resolve(params: str = "", overrides: str = "", seed: int = -1, model_name: str = "") -> dict[str, dict]:
    made = load("resolve").python_func(params, overrides, seed, model_name)
    return {stage: json.loads(text) for stage, text in zip(STAGES, made, strict=True)}


def test_resolve_gives_each_stage_only_its_own(fake_stages):
    made = resolve("seed: 1\ntune: {rows: 4}\n", "adapt.rows=2\n\n  tune.note=a b\n", 5, "mine")
    assert made["sources"] == {"seed": 5, "sources": {}}
    assert made["adapt"] == {"seed": 5, "adapt": {"rows": 2}}
    assert made["tune"] == {"seed": 5, "tune": {"rows": 4, "note": "a b"}}
    assert made["promote"] == {"seed": 5, "promote": {"name": "mine"}}


def test_resolve_without_parameters_reads_the_repositorys(fake_stages):
    assert resolve()["sources"] == {"seed": 3, "sources": {"rows": 3}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"params": "tune: {rwos: 1}"}, "did you mean tune.rows?"),
        ({"params": "a: ["}, "not valid YAML"),
        ({"overrides": "tune.rows"}, "not of the form stage.key=value"),
        ({"overrides": "tune.rows=many"}, "expected int"),
    ],
)
def test_resolve_stops_on_wrong_parameters(fake_stages, capsys, given, message):
    with pytest.raises(SystemExit):
        resolve(**given)
    assert message in capsys.readouterr().out


def test_on_a_cluster_each_stage_gets_the_ids_of_what_it_reads_besides(fake_stages, monkeypatch):
    """Kubeflow's cache goes by parameters and by the image's name: other code under the same name is another id."""
    monkeypatch.setenv("VISTUNE_KFP_RUN", "7d9c-run")
    first = resolve()
    assert first["adapt"]["ids"] == {"code": component.code_digest("adapt"), "outside": ""}
    monkeypatch.setattr(component, "code_digest", lambda stage: f"other code of {stage}")
    second = resolve()
    assert second["adapt"]["ids"]["code"] == "other code of adapt"
    assert {k: v for k, v in second["adapt"].items() if k != "ids"} == {"seed": 3, "adapt": {"rows": 3}}


def test_a_step_takes_the_ids_for_no_parameter(fake_stages, tmp_path):
    made = load("sources")
    output, metrics = dsl.Artifact("data", str(tmp_path / "sources")), dsl.Metrics("metrics", str(tmp_path / "m"))
    settings = json.dumps({"seed": 3, "sources": {}, "ids": {"code": "c"}})
    made.python_func(settings=settings, data=output, metrics=metrics)
    assert receipt(tmp_path / "sources").summary["counts"]["out"] == 3


@pytest.mark.parametrize("verdict", ["fail", "inconclusive"])
def test_the_verdict_component_fails_the_run(capsys, verdict):
    with pytest.raises(SystemExit) as stop:
        load("verdict", f"verdict_{verdict}").python_func()
    assert stop.value.code == 1
    assert f"the verdict is {verdict}" in capsys.readouterr().out


def test_an_unknown_verdict_is_an_error(tmp_path):
    (tmp_path / "promotion.json").write_text('{"verdict": "maybe"}')
    with pytest.raises(VistuneError, match="'maybe'"):
        component.verdict(str(tmp_path), "promotion.json")


@pytest.mark.parametrize(("folder", "name"), COMPONENTS)
def test_texts_for_the_ui(folder, name):
    """Every input is explained where the UI shows it, and every artefact in the README."""
    made = load(folder, name)
    spec = made.component_spec
    assert spec.description
    for given_name, given in (spec.inputs or {}).items():
        assert given.description, f"{name}.{given_name}"
    for given_name, given in (spec.outputs or {}).items():
        if "system." in given.type:
            assert f"    {given_name}: " in inspect.getdoc(made.python_func), f"{name}.{given_name}"


@pytest.mark.parametrize(("folder", "name"), COMPONENTS)
def test_bodies_hold_no_logic(folder, name):
    lines = inspect.getsource(load(folder, name).python_func).splitlines()
    start = max(n for n, line in enumerate(lines) if line.strip() == '"""' or line.strip().endswith('"""'))
    code = [line for line in lines[start + 1 :] if line.strip()]
    assert len([line for line in code if not line.startswith("     ")]) <= 4


@pytest.mark.parametrize(("folder", "name"), COMPONENTS)
def test_nothing_is_installed_when_a_step_starts(folder, name):
    spec = load(folder, name).component_spec
    assert "pip install" not in str(spec.implementation.container.command)
