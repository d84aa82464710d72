"""The vectors of the official scorers, where they lie beside the repository (a public clone has none)."""

import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cases import SCORERS, check, difference, required

from vistune.errors import VistuneError

FILE = Path(os.environ.get("FIXTURES", Path(__file__).parents[3] / "shared/fixtures/eval/golden.json"))


def test_scorers_equal_the_official_ones():
    if not FILE.is_file():
        pytest.skip(f"NO GOLDEN VECTORS in {FILE}: our scorers were not compared with the official ones")
    cases = list(check(FILE))
    assert cases and {case.metric for case in cases} <= set(SCORERS)
    assert not [f"{case.id}: {case.said}" for case in cases if not case.passed]


def test_which_vectors_are_asked():
    assert required("pope_parse") and not required("pope_aggregate_lmmseval") and not required("chartqa_relaxed_lmeval")


def test_a_difference_is_seen(tmp_path):
    vectors = [
        {"id": "a", "metric": "pope_parse", "input": {"text": "No"}, "expected": "yes"},
        {"id": "b", "metric": "pope_parse", "input": {"text": "No"}, "expected": "no"},
        {"id": "c", "metric": "unheard_of", "input": {}, "expected": 1},
        {"id": "d", "metric": "anls_m4c", "input": {"prediction": "", "answers": [""]}, "expected": {"error": "X"}},
        {"id": "e", "metric": "anls_m4c", "input": {}, "expected": 1.0},
        {"id": "f", "metric": "vqav2_accuracy_lmmseval", "input": {}, "expected": 1},
    ]
    (tmp_path / "golden.json").write_text(json.dumps({"cases": vectors}))
    found = {case.id: case for case in check(tmp_path / "golden.json")}
    assert {id: case.passed for id, case in found.items()} == {"a": False, "b": True, "c": False, "d": True, "e": False}
    assert "official script: X; here 1.0" in found["d"].said and "KeyError" in found["e"].said
    assert difference([1.0, 2.5], [1.0, 2.0]) == 0.5 and difference(True, "True") == float("inf")


def test_a_file_without_vectors(tmp_path):
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(VistuneError, match="holds no golden vectors"):
        list(check(tmp_path / "x.json"))
