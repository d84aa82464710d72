"""`python tests/golden FILE`: one line for each scorer, each failed case, then how many passed and failed."""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from cases import Case, check

from vistune.errors import VistuneError


def main(arguments: list[str]) -> int:
    found: dict[str, list[Case]] = defaultdict(list)
    try:
        for case in check(Path(arguments[0])):
            found[case.metric].append(case)
    except VistuneError as error:
        print(error, file=sys.stderr)
        return 1
    for metric, cases in sorted(found.items()):
        good = [case for case in cases if case.passed]
        gap = max((case.difference for case in good if math.isfinite(case.difference)), default=0.0)
        left_out = sorted({name for case in cases for name in case.left_out})
        note = f"  ({', '.join(left_out)} not computed)" if left_out else ""
        print(f"{metric:32} {len(good):4} of {len(cases):4}, largest difference {gap:.1e}{note}")
        for case in cases:
            if case.said:
                print(f"    {'' if case.passed else 'FAILED '}{case.id}: {case.said}")
    passed = sum(case.passed for cases in found.values() for case in cases)
    failed = sum(map(len, found.values())) - passed
    print(f"{passed} passed, {failed} failed")
    return int(bool(failed) or not passed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
