"""The whole pipeline: annotated images in, a promoted model and a report out."""

from common import begin, data, model, require
from kfp import dsl
from placing import Cluster, Steps


def build(cluster: Cluster | None) -> dsl.base_component.BaseComponent:
    """The pipeline for a cluster, or for this machine."""
    step = Steps(cluster)

    @step.pipeline("vistune-instruction-tuning")
    def instruction_tuning(
        params: str = "", overrides: str = "", seed: int = -1, model_name: str = "", require_pass: bool = False
    ):
        """Adapt annotations, self-instruct, validate, tune, evaluate zero-shot, promote on evidence.

        Args:
            params: A whole params.yaml as text. Empty: the params.yaml of the image.
            overrides: Single parameters laid over it, one `stage.key=value` a line.
            seed: Seed of every random choice. Below 0: the one in params.
            model_name: Name in the model registry. Empty: the one in params.
            require_pass: Fail the run unless the verdict is pass (for CI).
        """
        with step.run():
            settings = begin(step, params=params, overrides=overrides, seed=seed, model_name=model_name)
            made = data(step, settings)
            tuned = model(step, settings["tune"], made.release)
            about = {"sources": made.sources, "release": made.release, "model": tuned}
            scorecard = step("evaluate", settings=settings["evaluate"], **about).outputs["scorecard"]
            promote = step("promote", settings=settings["promote"], scorecard=scorecard, **about)
            report = step(
                "report",
                settings=settings["report"],
                adapt=made.adapt,
                self_instruct=made.self_instruct,
                scorecard=scorecard,
                promotion=promote.outputs["promotion"],
                **about,
            )
            require(step, require_pass, promote.outputs["Output"], report)

    return instruction_tuning
