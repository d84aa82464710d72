"""What several pipelines have in common: their first steps, the data, and the last step."""

from typing import Any, NamedTuple

from kfp import dsl
from placing import Steps


class Data(NamedTuple):
    """Artefacts of the data stages."""

    sources: Any
    adapt: Any
    self_instruct: Any
    release: Any


def begin(step: Steps, **given: object) -> Any:
    """Checks everything and returns each stage's own parameters. given: params, overrides, seed and model_name."""
    given = {"model_name": "", **given}
    resolved = step("resolve", stages=",".join(step.stages), **given)
    if step.cluster is not None:
        resolved.after(step("preflight", needs=step.needs(), **given))
    return resolved.outputs


def data(step: Steps, settings: Any) -> Data:
    """Sources, samples of both methods, and the release."""
    sources = step("sources", settings=settings["sources"]).outputs["data"]
    adapted = samples(step, "adapt", settings["adapt"], sources)
    written = samples(step, "self_instruct", settings["self_instruct"], sources)
    release = step("validate", settings=settings["validate"], sources=sources, adapt=adapted, self_instruct=written)
    return Data(sources, adapted, written, release.outputs["release"])


def samples(step: Steps, stage: str, settings: Any, sources: Any) -> Any:
    """The samples of `adapt` or `self_instruct`: in one step, or in parts side by side that are merged."""
    shards = step.cluster.shards if step.cluster is not None else 1
    if shards == 1:
        return step(stage, settings=settings, sources=sources).outputs["samples"]
    with dsl.ParallelFor(list(range(shards)), name=f"{stage} in {shards} parts") as number:
        part = step(f"{stage}_part", settings=settings, sources=sources, part=number, parts=shards)
    merged = step(f"{stage}_merge", settings=settings, sources=sources, parts=dsl.Collected(part.outputs["samples"]))
    return merged.outputs["samples"]


def model(step: Steps, settings: Any, release: Any) -> Any:
    """The tuned model, trained in the step's own pod or in a job."""
    if step.cluster is None or not step.cluster.in_job:
        return step("tune", settings=settings, release=release).outputs["model"]
    return step("tune_job", settings=settings, release=release, backend=step.cluster.train_on).outputs["model"]


def require(step: Steps, wanted: Any, found: Any, after: dsl.PipelineTask) -> None:
    """Fails the run, once `after` is done, where the verdict `found` is not pass and `wanted` is set: by the name of
    the step that fails, who waits for the run knows the verdict."""
    with dsl.If(wanted == True):  # noqa: E712
        for verdict in ("fail", "inconclusive"):
            with dsl.If(found == verdict):
                step(f"verdict_{verdict}").after(after)
