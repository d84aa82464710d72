"""Fetches what the last pipeline run of a commit found, for a CI job to publish: the model card with its scores and the
verdict, and the metrics of `evaluate`. Reads MLflow (MLFLOW_TRACKING_URI and its user and password).

    python infra/ci/scorecard.py --output scorecard [--git-sha SHA]

Writes scorecard.md and scorecard.json. Exit status 1: the commit has no finished run.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from vistune import lineage
from vistune.errors import VistuneError
from vistune.tracking.runs import connect, experiment


def newest(client: Any, stage: str, sha: str) -> Any:
    """The last finished run of a stage of this commit."""
    found = client.search_runs(
        [experiment(client)],
        f"attributes.run_name = '{stage}' and attributes.status = 'FINISHED' and tags.`git.sha` = '{sha}'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    if not found:
        raise VistuneError(
            f"MLflow has no finished run of {stage} for commit {sha[:12]}. See the log of the pipeline run."
        )
    return found[0]


def fetch(output: Path, sha: str) -> None:
    client = connect()
    output.mkdir(parents=True, exist_ok=True)
    evaluated, promoted = newest(client, "evaluate", sha), newest(client, "promote", sha)
    card = Path(client.download_artifacts(promoted.info.run_id, "model_card.md", str(output)))
    card.replace(output / "scorecard.md")
    found = {"git_sha": sha, "mlflow_run_id": evaluated.info.run_id, "metrics": dict(evaluated.data.metrics)}
    (output / "scorecard.json").write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("scorecard"), metavar="DIR")
    parser.add_argument("--git-sha", default="", metavar="SHA", help="default: the checked-out commit")
    options = parser.parse_args()
    try:
        fetch(options.output, options.git_sha or lineage.git()[0])
    except VistuneError as error:
        print(f"vistune: {error}", file=sys.stderr)
        return 1
    print(f"scorecard: {options.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
