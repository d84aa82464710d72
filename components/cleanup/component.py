"""Ends what a run has left on the cluster; the pipeline's exit handler."""

import os

from kfp import dsl


@dsl.component(base_image=os.environ.get("VISTUNE_IMAGE", "vistune:dev"), install_kfp_package=False)
def cleanup(run: str):
    """Deletes training jobs that the run has not finished, however it ended.

    Args:
        run: Id of the Kubeflow run.
    """
    from vistune.component import cleanup

    cleanup(run)
