"""The fixtures, where they lie beside the repository (a public clone has none): one test for each."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness import run

FIXTURES = Path(os.environ.get("FIXTURES", Path(__file__).parents[3] / "shared/fixtures/parity"))
NAMES = [f"{p.parent.name}/{p.stem}" for p in sorted(FIXTURES.glob("*/*.json"))]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES or ["none"])
def test_equals_the_authors_code(name):
    if not NAMES:
        pytest.skip(f"NO PARITY FIXTURES in {FIXTURES}: our blocks were not compared with the authors' code")
    cases = list(run(FIXTURES, name))
    assert cases
    assert not [str(case) for case in cases if not case.passed]
