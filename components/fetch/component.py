"""A model from anywhere, for evaluation alone."""

import os

from kfp import dsl


@dsl.component(base_image=os.environ.get("VISTUNE_IMAGE", "vistune:dev"), install_kfp_package=False)
def fetch(
    settings: str,
    model: str,
    base: str,
    trained_on: str,
    fetched: dsl.Output[dsl.Model],
    release: dsl.Output[dsl.Dataset],
) -> str:
    """Get a model from the registry, the hub, or a folder, as `evaluate` reads one, and say which one it was.

    Args:
        settings: The parameters of `evaluate`, from `resolve`.
        model: models:/NAME@ALIAS, models:/NAME/VERSION, ORG/NAME or ORG/NAME@REVISION, or a folder.
        base: What it is compared with, named likewise; empty for nothing.
        trained_on: Folder of the release that the model was trained on; empty where that is not known.
        fetched: The models (safetensors).
        release: That release, or an empty one.

    Returns:
        The parameters of `evaluate` for the models that there are.
    """
    from vistune.component import fetch

    return fetch(settings, model, base, trained_on, fetched, release)
