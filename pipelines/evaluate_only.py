"""Evaluation alone, of any model: a folder, a version in the registry, or a published one."""

from common import begin, require
from kfp import dsl
from placing import Cluster, Steps


def build(cluster: Cluster | None) -> dsl.base_component.BaseComponent:
    """The pipeline for a cluster, or for this machine."""
    step = Steps(cluster)

    @step.pipeline("vistune-evaluate-only")
    def evaluate_only(
        model: str,
        base: str = "",
        release: str = "",
        params: str = "",
        overrides: str = "",
        seed: int = -1,
        require_pass: bool = False,
    ):
        """Score any model zero-shot, beside another one where it is named, and register nothing.

        Args:
            model: What is evaluated: models:/NAME@ALIAS, models:/NAME/VERSION, a hub id (ORG/NAME or
                ORG/NAME@REVISION; its commit is looked up and recorded), or a folder that the step can read.
            base: What it is compared with, named likewise. Empty: nothing, and no gate can pass.
            release: Folder of the release that the model was trained on, so that leaks are found. Empty: not known.
            params: A whole params.yaml as text. Empty: the params.yaml of the image.
            overrides: Single parameters laid over it, one `stage.key=value` a line.
            seed: Seed of every random choice. Below 0: the one in params.
            require_pass: Fail the run unless the gate's verdict is pass (for CI).
        """
        with step.run():
            settings = begin(step, params=params, overrides=overrides, seed=seed)
            sources = step("sources", settings=settings["sources"]).outputs["data"]
            fetched = step("fetch", settings=settings["evaluate"], model=model, base=base, trained_on=release).outputs
            evaluate = step(
                "evaluate",
                settings=fetched["Output"],
                sources=sources,
                release=fetched["release"],
                model=fetched["fetched"],
            )
            require(step, require_pass, evaluate.outputs["Output"], evaluate)

    return evaluate_only
