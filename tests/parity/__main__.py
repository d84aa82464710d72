"""`python tests/parity DIR [--only TEXT] [--quiet]`: one line a case, then how many passed and failed."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from harness import run


def main(arguments: list[str]) -> int:
    quiet = "--quiet" in arguments
    only = arguments[arguments.index("--only") + 1] if "--only" in arguments else ""
    folder = Path(arguments[0])
    if not folder.is_dir():
        print(f"{folder} is no folder of fixtures; name one with FIXTURES=DIR.", file=sys.stderr)
        return 1
    passed = failed = 0
    for case in run(folder, only):
        passed, failed = passed + case.passed, failed + (not case.passed)
        if not (quiet and case.passed):
            print(case, flush=True)
    print(f"{passed} passed, {failed} failed")
    return int(bool(failed) or not passed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
