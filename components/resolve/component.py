"""First step of every pipeline: check all parameters and hand each stage its own."""

import os
from typing import NamedTuple

from kfp import dsl


@dsl.component(base_image=os.environ.get("VISTUNE_IMAGE", "vistune:dev"), install_kfp_package=False)
def resolve(params: str, overrides: str, seed: int, model_name: str) -> NamedTuple(
    "Settings",
    [
        ("sources", str),
        ("adapt", str),
        ("self_instruct", str),
        ("validate", str),
        ("tune", str),
        ("evaluate", str),
        ("promote", str),
        ("report", str),
    ],
):
    """Check all parameters before anything costs money. An unknown key is an error that names the nearest one.

    Args:
        params: A whole params.yaml as text; empty uses the one in the image.
        overrides: `stage.key=value`, one a line.
        seed: Seed of every random choice; below 0 keeps the one in params.
        model_name: Name in the model registry; empty keeps the one in params.

    Returns:
        Each stage's own parameters, so that a change to one stage reruns only what depends on it.
    """
    from vistune.component import resolve

    return tuple(resolve(params, overrides, seed, model_name))
