"""The process that holds a run's parent MLflow run open: `python -m vistune.parent NAME TAGS_JSON`.

Prints the run's id, then waits for one JSON line {"status", "metrics", "tags"} on stdin. If stdin ends without one,
the process that started it is gone and the run is marked as killed.
"""

from __future__ import annotations

import json
import sys

from vistune import tracking
from vistune.errors import VistuneError


class _Failed(Exception):
    pass


def main() -> int:
    name, tags = sys.argv[1], json.loads(sys.argv[2])
    try:
        with tracking.parent_run(name, tags) as tracker:
            print(tracker.run_id, flush=True)
            line = sys.stdin.readline()
            if not line:
                raise KeyboardInterrupt
            end = json.loads(line)
            tracker.log(end["metrics"])
            tracker.tag(end["tags"])
            if end["status"] == "KILLED":
                raise KeyboardInterrupt
            if end["status"] == "FAILED":
                raise _Failed
    except VistuneError as error:
        print(f"vistune: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, _Failed):
        return 0
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
