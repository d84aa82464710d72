"""Promotion alone, from the artefacts of an earlier run."""

from common import begin, require
from kfp import dsl
from placing import Cluster, Steps


def build(cluster: Cluster | None) -> dsl.base_component.BaseComponent:
    """The pipeline for a cluster, or for this machine."""
    step = Steps(cluster)

    @step.pipeline("vistune-promote-only")
    def promote_only(
        sources: str,
        release: str,
        model: str,
        scorecard: str,
        params: str = "",
        overrides: str = "",
        seed: int = -1,
        model_name: str = "",
        require_pass: bool = False,
    ):
        """Register the model of an earlier run, and make it champion if its scorecard passed the gate.

        Args:
            sources: Address of the artefact `data` of the step `sources`, as the UI shows it (s3://..., minio://...).
            release: Address of the artefact `release` of the step `validate`.
            model: Address of the artefact `model` of the step `tune`.
            scorecard: Address of the artefact `scorecard` of the step `evaluate`.
            params: A whole params.yaml as text. Empty: the params.yaml of the image.
            overrides: Single parameters laid over it, one `stage.key=value` a line.
            seed: Seed of every random choice. Below 0: the one in params.
            model_name: Name in the model registry. Empty: the one in params.
            require_pass: Fail the run unless the verdict is pass (for CI).
        """
        given = {
            "sources": (sources, dsl.Dataset),
            "release": (release, dsl.Dataset),
            "model": (model, dsl.Model),
            "scorecard": (scorecard, dsl.Artifact),
        }
        with step.run():
            settings = begin(step, params=params, overrides=overrides, seed=seed, model_name=model_name)
            found = {}
            for name, (address, kind) in given.items():
                task = dsl.importer(artifact_uri=address, artifact_class=kind, reimport=False)
                found[name] = task.set_display_name(f"import {name}").set_caching_options(False).output
            promote = step("promote", settings=settings["promote"], **found)
            require(step, require_pass, promote.outputs["Output"], promote)

    return promote_only
