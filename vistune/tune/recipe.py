"""The published recipe of a preset as training stages."""

from __future__ import annotations

from vistune.errors import VistuneError
from vistune.models.families.base import Preset, Stage
from vistune.tune import StageParams


def published(family: str, name: str, preset: Preset) -> tuple[StageParams, ...]:
    """The stages that the authors published, on the samples of the release. Raises VistuneError where a figure that
    is needed was not published: then tune.stages has to say it."""
    if not preset.stages:
        raise VistuneError(f"no recipe of {family} ({name}) is published. Name the training stages in tune.stages.")
    return tuple(_stage(f"{family} ({name})", preset, stage) for stage in preset.stages)


def _stage(model: str, preset: Preset, stage: Stage) -> StageParams:
    lacking = [role for role, rate in stage.rates.items() if rate is None]
    lacking += [] if stage.steps or stage.epochs else ["steps or epochs"]
    lacking += [] if stage.batch else ["batch"]
    if lacking:
        raise VistuneError(
            f"the recipe of {model}, stage {stage.name}, was published without {', '.join(lacking)}. Write the stages "
            f"into tune.stages; `vistune families {model.split()[0]}` prints what is known."
        )
    warmup = stage.warmup or 0.0
    if warmup > 1:
        warmup = warmup / stage.steps if stage.steps else 0.03
    return StageParams(
        name=stage.name,
        objective="caption" if stage.template in ("plain", "minigpt4_caption") else "instruct",
        learning_rates={role: float(rate) for role, rate in stage.rates.items() if rate is not None},
        steps=stage.steps or 0,
        epochs=stage.epochs or 0.0,
        samples=stage.batch or 0,
        max_tokens=stage.limit or preset.limit,
        together=1,
        warmup=warmup,
        weighting="token",
        weight_decay=stage.weight_decay or 0.0,
        lora=dict(stage.lora),
        template=stage.template,
        settings=dict(stage.settings),
    )
