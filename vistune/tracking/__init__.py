"""MLflow, and the only code that imports it: runs, metrics, models, registry versions and aliases.

A pipeline run is one parent run with a nested run per stage that really ran. Where the runs go:
- a platform that already opened a run for this task (`MLFLOW_RUN_ID`, as Kubeflow Pipelines' MLflow plugin does):
  that run is adopted, written to, and left open for the platform to end;
- else a new run under the parent that `VISTUNE_PARENT_RUN` or the plugin's `KFP_MLFLOW_CONFIG` names;
- else a run of its own.
`MLFLOW_TRACKING_URI` names the server; the default is `mlflow.db` in the repository with its artefacts in
`.vistune/mlartifacts`. `VISTUNE_TRACKING=off` records nothing.
"""

from vistune.tracking.registry import (
    Version,
    delete_alias,
    describe_version,
    get_alias,
    get_version,
    load_pyfunc,
    log_vlm,
    model_folder,
    register_version,
    search_versions,
    serve,
    set_alias,
    set_version_tag,
)
from vistune.tracking.runs import Tracker, enabled, log_file, parent_run, run_exists, stage_run, uri
from vistune.tracking.text import redact, redact_text

__all__ = [
    "Tracker",
    "Version",
    "delete_alias",
    "describe_version",
    "enabled",
    "get_alias",
    "get_version",
    "load_pyfunc",
    "log_file",
    "log_vlm",
    "model_folder",
    "parent_run",
    "redact",
    "redact_text",
    "register_version",
    "run_exists",
    "search_versions",
    "serve",
    "set_alias",
    "set_version_tag",
    "stage_run",
    "uri",
]
