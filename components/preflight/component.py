"""Checks everything that a run needs before anything costs money."""

import os

from kfp import dsl


@dsl.component(base_image=os.environ.get("VISTUNE_IMAGE", "vistune:dev"), install_kfp_package=False)
def preflight(params: str, overrides: str, seed: int, model_name: str, needs: str):
    """Check parameters, endpoints, registry, and the cluster's kinds of job, rights, quota, storage and secrets.

    What this pipeline does not run is not asked about. Every other check is made, and the table says of each that
    failed what to do. Nothing of a secret is read but whether it is there.

    Args:
        params: A whole params.yaml as text; empty uses the one in the image.
        overrides: `stage.key=value`, one a line.
        seed: Seed of every random choice; below 0 keeps the one in params.
        model_name: Name in the model registry; empty keeps the one in params.
        needs: What the compiled pipeline asks of the cluster, as JSON.
    """
    from vistune.component import preflight

    preflight(params, overrides, seed, model_name, needs)
