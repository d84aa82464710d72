"""Ends what a run has left on the cluster, and says how it ended; the pipeline's exit handler."""

import os

from kfp import dsl


@dsl.component(base_image=os.environ.get("VISTUNE_IMAGE", "vistune:dev"), install_kfp_package=False)
def cleanup(run: str, status: dsl.PipelineTaskFinalStatus):
    """Delete training jobs that the run has not finished, give its MLflow run its final status, and tell a webhook.

    Args:
        run: Id of the Kubeflow run.
        status: How the run ended, from Kubeflow.
    """
    from vistune.component import cleanup

    cleanup(run, status.state, status.error_message or "")
