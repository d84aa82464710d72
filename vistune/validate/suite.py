"""The release as one table, and what Great Expectations expects of it.

Row checks have run before; the suite asserts the properties of the release as a whole, once more and in a form that
can be read: its result is the Data Docs page.
"""

from __future__ import annotations

import datetime
import logging
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.errors import VistuneError
from vistune.licences import Allowed
from vistune.records import Sample
from vistune.store import open_store
from vistune.text import tokens
from vistune.validate import Params
from vistune.validate.checks import VALUES, Level, Tally
from vistune.validate.data_docs import write_pages

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.expectations import Expectation

RUN_TIME = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
"""A fixed run time, so that two runs of one release write the same pages; the pages do not show it."""


def flatten(samples: Sequence[Sample], folder: Path) -> pd.DataFrame:
    """One row per sample; empty text is null, so that "not null" means "stated". `folder` is the release."""
    import pandas as pd

    splits: dict[str, set[str]] = {}
    for s in samples:
        splits.setdefault(s.group, set()).add(s.split)
    images = open_store(folder)
    placed = {i.path: i.sha256 in images for s in samples for i in s.images}
    columns: dict[str, list[Any]] = {
        "id": [s.id for s in samples],
        "dataset": [s.dataset or None for s in samples],
        "split": [s.split or None for s in samples],
        "task": [s.task or None for s in samples],
        "method": [s.method or None for s in samples],
        "language": [s.language or None for s in samples],
        "licence": [s.licence or None for s in samples],
        "made_by": [s.lineage.template or s.lineage.prompt or None for s in samples],
        "turns": [sum(m.role == "assistant" for m in s.messages) for s in samples],
        "instruction_words": [len(tokens(s.instruction)) for s in samples],
        "response_words": [len(tokens(s.response)) for s in samples],
        "response_characters": [len(s.response.strip()) for s in samples],
        "smallest_image_side": [min((min(i.width, i.height) for i in s.images), default=None) for s in samples],
        "missing_images": [sum(not placed[i.path] for i in s.images) for s in samples],
        "splits_of_group": [len(splits[s.group]) for s in samples],
        "presence_yes": [float(s.polarity == "yes") if s.task == "presence" else None for s in samples],
    }
    return pd.DataFrame(columns)


def expectations(params: Params, frame: pd.DataFrame) -> list[Expectation]:
    """Those of severity "critical" stop the run, those of severity "warning" are reported."""
    from great_expectations import expectations as gx
    from great_expectations.expectations.metadata_types import FailureSeverity

    hard, soft = FailureSeverity.CRITICAL, FailureSeverity.WARNING

    def stated(column: str) -> Expectation:
        text = f"Every sample states {column}."
        return gx.ExpectColumnValuesToNotBeNull(column=column, severity=hard, description=text)

    def among(column: str, values: Iterable[str]) -> Expectation:
        text = f"{column} is a known value."
        allowed = sorted(values)
        return gx.ExpectColumnValuesToBeInSet(column=column, value_set=allowed, severity=hard, description=text)

    def between(column: str, low: float, high: float | None, text: str) -> Expectation:
        return gx.ExpectColumnValuesToBeBetween(
            column=column, min_value=low, max_value=high, severity=hard, description=text
        )

    least, longest = params.min_samples, params.max_response_words
    found: list[Expectation] = [
        gx.ExpectTableRowCountToBeBetween(min_value=least, severity=hard, description=f"{least:,} or more samples."),
        gx.ExpectColumnDistinctValuesToContainSet(
            column="split", value_set=["train"], severity=hard, description="There is something to train on."
        ),
        gx.ExpectColumnValuesToBeUnique(column="id", severity=hard, description="An id names one sample."),
        *map(stated, ("id", "dataset", "split", "task", "method", "language", "licence", "made_by")),
        *(among(column, VALUES[column]) for column in ("task", "method", "split")),
        among("language", params.languages),
        between("turns", 1, None, "Every sample has a question and its answer."),
        between("response_characters", 1, None, "Every response has text."),
        between("smallest_image_side", 1, None, "Images have a size."),
        between("missing_images", 0, 0, "Every image lies in the release."),
        between("splits_of_group", 1, 1, "Samples of one picture stay in one split."),
        gx.ExpectColumnValuesToBeBetween(
            column="response_words",
            max_value=longest,
            mostly=0.99,
            severity=soft,
            description=f"99 % of the responses have at most {longest} words.",
        ),
    ]
    if params.allow_licences:
        allowed = Allowed(params.allow_licences, "validate.allow_licences")
        spelled = set(frame["licence"].dropna()) | set(params.allow_licences)
        found.append(among("licence", (name for name in spelled if allowed.refusal(name) is None)))
    if frame["presence_yes"].notna().any():
        low, high = params.yes_share_low, params.yes_share_high
        text = f"Between {low:.0%} and {high:.0%} of the presence questions are answered yes."
        found.append(
            gx.ExpectColumnMeanToBeBetween(
                column="presence_yes", min_value=low, max_value=high, severity=soft, description=text
            )
        )
    return found


def expect(samples: Sequence[Sample], params: Params, digest: str, output: Path) -> list[Tally]:
    """Runs the suite on the release in `output` and writes `output/data_docs/`. Returns one tally per expectation.
    Raises VistuneError when a critical expectation fails, naming it and the samples."""
    os.environ["GX_ANALYTICS_ENABLED"] = "False"  # read on import
    import great_expectations as gx
    from great_expectations.checkpoint import UpdateDataDocsAction
    from great_expectations.core import RunIdentifier

    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    frame = flatten(samples, output)
    name = f"release {digest[:12]}"
    with tempfile.TemporaryDirectory(prefix="vistune-") as folder:
        context = gx.get_context(mode="file", project_root_dir=folder)
        context.enable_analytics(False)
        context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
        asset = context.data_sources.add_pandas("vistune").add_dataframe_asset("samples")
        suite = context.suites.add(gx.ExpectationSuite(name="release", expectations=expectations(params, frame)))
        validation = context.validation_definitions.add(
            gx.ValidationDefinition(name="release", data=asset.add_batch_definition_whole_dataframe("all"), suite=suite)
        )
        checkpoint = context.checkpoints.add(
            gx.Checkpoint(
                name="release",
                validation_definitions=[validation],
                actions=[UpdateDataDocsAction(name="data_docs")],
                result_format={
                    "result_format": "COMPLETE",  # the only one whose pages name the rows
                    "unexpected_index_column_names": ["id"],
                    "return_unexpected_index_query": False,
                },
            )
        )
        outcome = checkpoint.run(batch_parameters={"dataframe": frame}, run_id=RunIdentifier(name, RUN_TIME))
        (result,) = outcome.run_results.values()
        write_pages(Path(folder) / "gx/uncommitted/data_docs/local_site", output / "data_docs", name)
        tallies = [_tally(r.to_json_dict(), len(frame)) for r in result.results]
    broken = [t for t in tallies if t.failed and t.level == "hard"]
    if broken:
        listed = "; ".join(f"{t.what.rstrip('.')} ({t.name}): {', '.join(t.ids) or 'not so'}" for t in broken)
        raise VistuneError(
            f"the release breaks {len(broken)} of {len(tallies)} expectations: {listed}. "
            f"See {output / 'data_docs' / 'index.html'}, mend the data or the parameters of `validate`, and run again."
        )
    return tallies


def _tally(result: Mapping[str, Any], rows: int) -> Tally:
    """One expectation's result. An expectation about a column as a whole evaluates once."""
    config, found = result["expectation_config"], result["result"]
    trouble = result["exception_info"]
    if trouble.get("raised_exception"):
        raise VistuneError(
            f"expectation {config['type']} could not be evaluated: {trouble.get('exception_message')}. This is a "
            "defect in vistune or a change in Great Expectations; check its version against constraints.txt."
        )
    kwargs = config["kwargs"]
    name = f"{config['type']}({kwargs['column']})" if "column" in kwargs else config["type"]
    level: Level = "hard" if config["severity"] == "critical" else "warning"
    tally = Tally(name, level, config["description"], evaluated=1, failed=int(not result["success"]))
    if "unexpected_count" in found:
        tally.evaluated, tally.failed = rows, int(found["unexpected_count"])
        tally.ids = [row["id"] for row in found.get("partial_unexpected_index_list") or []][:10]
    elif not result["success"] and "observed_value" in found:
        tally.ids = [f"observed {found['observed_value']}"]
    return tally
