"""MLflow, and the only code that imports it: runs, metrics, models, registry versions and aliases.

A pipeline run is one parent run with a nested run per stage that really ran. Where the runs go:
- a platform that already opened a run for this task (`MLFLOW_RUN_ID`, as Kubeflow Pipelines' MLflow plugin does):
  that run is adopted, written to, and left open for the platform to end;
- else a new run under the parent that `VISTUNE_PARENT_RUN` or the plugin's `KFP_MLFLOW_CONFIG` names;
- else a run of its own.
`MLFLOW_TRACKING_URI` names the server; the default is `mlflow.db` in the repository with its artefacts in
`.vistune/mlartifacts`. `VISTUNE_TRACKING=off` records nothing.
"""

from vistune.tracking.kubeflow import end_pipeline, open_pipeline
from vistune.tracking.lookup import RunFacts, children, run_exists, run_facts, run_file, run_tags, runs_that_read
from vistune.tracking.registry import (
    Version,
    delete_alias,
    delete_model_tag,
    describe_version,
    get_alias,
    get_version,
    load_pyfunc,
    log_vlm,
    model_files,
    model_folder,
    model_metadata,
    model_tags,
    register_version,
    search_versions,
    serve,
    set_alias,
    set_model_tag,
    set_version_tag,
    versions_with,
)
from vistune.tracking.runs import Tracker, enabled, log_file, parent_run, stage_run, uri
from vistune.tracking.text import redact, redact_text

__all__ = [
    "RunFacts",
    "Tracker",
    "Version",
    "children",
    "delete_alias",
    "delete_model_tag",
    "describe_version",
    "enabled",
    "end_pipeline",
    "get_alias",
    "get_version",
    "load_pyfunc",
    "log_file",
    "log_vlm",
    "model_files",
    "model_folder",
    "model_metadata",
    "model_tags",
    "open_pipeline",
    "parent_run",
    "redact",
    "redact_text",
    "register_version",
    "run_exists",
    "run_facts",
    "run_file",
    "run_tags",
    "runs_that_read",
    "search_versions",
    "serve",
    "set_alias",
    "set_model_tag",
    "set_version_tag",
    "stage_run",
    "uri",
    "versions_with",
]
