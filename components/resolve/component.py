"""First step of every pipeline: check all parameters and hand each stage its own."""

import os
from typing import List, NamedTuple  # noqa: UP035

from kfp import dsl


@dsl.component(base_image=os.environ.get("VISTUNE_IMAGE", "vistune:dev"), install_kfp_package=False)
def resolve(params: str, overrides: str, seed: int, model_name: str, stages: str = "") -> NamedTuple(
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
    """Check all parameters before anything costs money, and pin what they name.

    An unknown key is an error that names the nearest one. Data under DVC at a revision becomes commit and md5, a model
    of the hub its commit, a folder with a model its digest: the later steps take those, so that the cache is right.

    Args:
        params: A whole params.yaml as text; empty uses the one in the image.
        overrides: `stage.key=value`, one a line.
        seed: Seed of every random choice; below 0 keeps the one in params.
        model_name: Name in the model registry; empty keeps the one in params.
        stages: That the pipeline runs, by commas; for others nothing is looked up. Empty: all.

    Returns:
        Each stage's own parameters, so that a change to one stage reruns only what depends on it.
    """
    from vistune.component import resolve

    return tuple(resolve(params, overrides, seed, model_name, stages))


@dsl.component(base_image=os.environ.get("VISTUNE_IMAGE", "vistune:dev"), install_kfp_package=False)
def vary(tune: str, variants: list) -> List[str]:  # noqa: UP006
    """Check all variants of a sweep before the first one costs anything.

    Args:
        tune: The parameters of `tune`, from `resolve`.
        variants: What each variant changes: `seed=N` or `tune.key=value`, several joined by a semicolon.

    Returns:
        The parameters of `tune` for each variant.
    """
    from vistune.component import vary

    return vary(tune, variants)


@dsl.component(base_image=os.environ.get("VISTUNE_IMAGE", "vistune:dev"), install_kfp_package=False)
def among(evaluate: str, variants: list) -> str:
    """Raise the gate's confidence for the number of variants: the best of several is partly the luckiest.

    Args:
        evaluate: The parameters of `evaluate`, from `resolve`.
        variants: What each variant changes.

    Returns:
        The parameters of `evaluate` for all variants.
    """
    from vistune.component import among

    return among(evaluate, variants)
