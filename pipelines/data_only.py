"""The data stages alone: annotated images in, a checked release out."""

from common import begin, data
from kfp import dsl
from placing import Cluster, Steps


def build(cluster: Cluster | None) -> dsl.base_component.BaseComponent:
    """The pipeline for a cluster, or for this machine."""
    step = Steps(cluster)

    @step.pipeline("vistune-data-only")
    def data_only(params: str = "", overrides: str = "", seed: int = -1):
        """Adapt annotations, self-instruct, validate: a checked release, and no model.

        Args:
            params: A whole params.yaml as text. Empty: the params.yaml of the image.
            overrides: Single parameters laid over it, one `stage.key=value` a line.
            seed: Seed of every random choice. Below 0: the one in params.
        """
        with step.run():
            data(step, begin(step, params=params, overrides=overrides, seed=seed))

    return data_only
