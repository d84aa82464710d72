"""params.yaml: strict, with errors that name the nearest key; and the file in the repository is one."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vistune.errors import VistuneError
from vistune.params import merge, override, parse, resolve
from vistune.reference import comments, parameters, to_yaml
from vistune.stages import STAGES, Settings
from vistune.tracking.text import SECRET_NAME

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Inner:
    rate: float = 1e-4  # of learning
    steps: int = 10


@dataclass(frozen=True)
class Outer:
    # Said above the field,
    # on two lines.
    name: str
    mode: Literal["fast", "slow"] = "fast"
    """Said below the field."""
    inner: Inner = field(default_factory=Inner)
    several: tuple[Inner, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)
    limit: int | None = None  # null = none


def test_parses_nested_sections_lists_and_mappings():
    value = {"name": "n", "several": [{"steps": 1}, {}], "weights": {"a": 2}, "inner": {"rate": "1e-3"}, "limit": None}
    made = parse(Outer, value, "x")
    assert made.several == (Inner(steps=1), Inner())
    assert made.weights == {"a": 2.0}
    assert made.inner.rate == 1e-3


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"name": "n", "inner": {"step": 1}}, "unknown parameter x.inner.step: did you mean x.inner.steps?"),
        ({"name": "n", "zzz": 1}, "unknown parameter x.zzz: known here: x.name, x.mode"),
        ({"name": 3}, "x.name is 3; expected str"),
        ({"name": "n", "limit": "many"}, "x.limit is 'many'; expected int"),
        ({"name": "n", "limit": True}, "x.limit is True; expected int"),
        ({"name": "n", "mode": "medium"}, "x.mode is 'medium'; expected one of 'fast', 'slow'"),
        ({"name": "n", "several": {"steps": 1}}, "x.several is .*; expected a list"),
        ({"name": "n", "several": [{"steps": 1.5}]}, r"x.several\[0\].steps is 1.5; expected int"),
        ({"name": "n", "weights": [1]}, "x.weights is .*; expected a mapping"),
        ({}, "x lacks name"),
        ([], "x is .*; expected a section with keys"),
    ],
)
def test_errors_name_the_key_and_what_was_expected(value, message):
    with pytest.raises(VistuneError, match=message):
        parse(Outer, value, "x")


def test_unknown_stage_names_the_nearest():
    with pytest.raises(VistuneError, match="unknown parameter evalute: did you mean evaluate"):
        Settings.parse({"evalute": {}})


def test_overrides_reach_into_lists_and_read_yaml():
    tree = {"tune": {"stages": [{"steps": 1}, {"steps": 2}]}}
    for assignment in ("tune.stages.1.steps=20", "tune.dtype=float32", "seed=5", "adapt.languages={en: 1.0}"):
        override(tree, assignment)
    assert tree == {
        "tune": {"stages": [{"steps": 1}, {"steps": 20}], "dtype": "float32"},
        "seed": 5,
        "adapt": {"languages": {"en": 1.0}},
    }


@pytest.mark.parametrize("assignment", ["tune.steps", "=1", ".a=1", "tune..steps=1", "seed.x=1", "tune.stages.7=1"])
def test_bad_overrides_are_errors(assignment):
    with pytest.raises(VistuneError, match="override"):
        override({"seed": 1, "tune": {"stages": [1]}}, assignment)


def test_overlays_are_laid_in_order_and_overrides_last(tmp_path):
    for name, text in {"a": "tune: {x: 1, y: 1}", "b": "tune: {y: 2, z: 2}", "c": "tune: {z: 3}"}.items():
        (tmp_path / name).write_text(text)
    tree = resolve(tmp_path / "a", [tmp_path / "b", tmp_path / "c"], ["tune.x=9"])
    assert tree == {"tune": {"x": 9, "y": 2, "z": 3}}


@pytest.mark.parametrize(
    ("text", "message"), [("a: [1", "is not valid YAML"), ("- a", "must be a mapping"), (None, "does not exist")]
)
def test_unreadable_files_are_errors(tmp_path, text, message):
    if text is not None:
        (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(VistuneError, match=message):
        resolve(tmp_path / "p.yaml")


trees = st.recursive(
    st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=8
).filter(lambda t: isinstance(t, dict))


@given(trees, trees)
def test_merge_keeps_what_the_overlay_does_not_name(base, over):
    def lookup(tree, path):
        for key in path:
            if not isinstance(tree, dict) or key not in tree:
                return None
            tree = tree[key]
        return tree

    def leaves(tree, path=()):
        for key, value in tree.items():
            yield from leaves(value, (*path, key)) if isinstance(value, dict) and value else [((*path, key), value)]

    before = yaml.safe_load(yaml.safe_dump(base))
    merge(base, over)
    for path, value in leaves(over):
        if value != {} or not isinstance(lookup(before, path), dict):
            assert lookup(base, path) == value
    for path, value in leaves(before):
        prefixes = [lookup(over, path[:n]) for n in range(1, len(path) + 1)]
        if prefixes[-1] is None and all(p is None or isinstance(p, dict) for p in prefixes):
            assert lookup(base, path) == value


def test_the_source_explains_each_field():
    said = comments(Outer)
    assert said["name"] == "Said above the field, on two lines."
    assert said["mode"] == "Said below the field."
    assert said["limit"] == "null = none"
    listed = {p.name: (p.type, p.default) for p in parameters(Outer)}
    assert listed["inner.rate"] == ("float", "0.0001")
    assert listed["several[].steps"] == ("int", "10")
    assert listed["limit"] == ("int | null", "null")
    assert listed["name"] == ("str", "")


def test_printed_parameters_parse_back_to_the_same():
    made = Outer("n", "slow", Inner(2e-5), (Inner(steps=3), Inner()), {"a": 1.0})
    text = to_yaml(4, {"x": made}, {"x": "A stage."})
    tree = yaml.safe_load(text)
    assert tree["seed"] == 4
    assert parse(Outer, tree["x"], "x") == made
    assert "# Said above the field, on two lines." in text


FILES = [ROOT / "params.yaml", *sorted((ROOT / "params").glob("*.yaml"))]


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_files_of_the_repository_parse(file):
    overlays = [] if file.name == "params.yaml" else [file]
    Settings.parse(resolve(ROOT / "params.yaml", overlays))


def test_params_yaml_has_a_section_per_stage():
    assert list(yaml.safe_load((ROOT / "params.yaml").read_text())) == ["seed", *STAGES]


def test_no_parameter_can_hold_a_secret():
    """Parameters are stored and shown everywhere; keys come from the environment."""
    for stage, params in Settings.parse({}).sections.items():
        for parameter in parameters(type(params)):
            assert not SECRET_NAME.search(parameter.name), f"{stage}.{parameter.name}"
