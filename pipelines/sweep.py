"""Several models from one release, of which only the best one is put forward for promotion."""

from common import begin, data, model, require
from kfp import dsl
from placing import Cluster, Steps

SEEDS = ["seed=0", "seed=1", "seed=2"]


def build(cluster: Cluster | None) -> dsl.base_component.BaseComponent:
    """The pipeline for a cluster, or for this machine, where one model is trained after the other."""
    step = Steps(cluster)

    @step.pipeline("vistune-sweep")
    def sweep(
        variants: list = SEEDS,
        params: str = "",
        overrides: str = "",
        seed: int = -1,
        model_name: str = "",
        require_pass: bool = False,
    ):
        """Tune and evaluate several variants on one release; promote the best of them on evidence.

        Args:
            variants: JSON list; each entry is what one variant changes: `seed=N` or `tune.key=value`, several joined
                by a semicolon, e.g. ["tune.family=llava", "tune.family=internvl;seed=1"]. The gate's confidence is
                raised for their number.
            params: A whole params.yaml as text. Empty: the params.yaml of the image.
            overrides: Single parameters laid over it, one `stage.key=value` a line.
            seed: Seed of every random choice. Below 0: the one in params.
            model_name: Name in the model registry. Empty: the one in params.
            require_pass: Fail the run unless the verdict is pass (for CI).
        """
        with step.run():
            settings = begin(step, params=params, overrides=overrides, seed=seed, model_name=model_name)
            varied = step("vary", tune=settings["tune"], variants=variants).output
            gated = step("among", evaluate=settings["evaluate"], variants=variants).output
            made = data(step, settings)
            about = {"sources": made.sources, "release": made.release}
            with dsl.ParallelFor(varied, name="variants", parallelism=1 if cluster is None else 4) as tune:
                tuned = model(step, tune, made.release)
                scored = step("evaluate", settings=gated, model=tuned, **about)
            best = step(
                "best",
                variants=variants,
                models=dsl.Collected(tuned),
                scorecards=dsl.Collected(scored.outputs["scorecard"]),
            ).outputs
            promote = step(
                "promote",
                settings=settings["promote"],
                model=best["model"],
                scorecard=best["scorecard"],
                **about,
            )
            require(step, require_pass, promote.outputs["Output"], promote)

    return sweep
