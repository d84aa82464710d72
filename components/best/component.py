"""Of several models the one that is put forward for promotion."""

import os
from typing import List  # noqa: UP035

from kfp import dsl


@dsl.component(base_image=os.environ.get("VISTUNE_IMAGE", "vistune:dev"), install_kfp_package=False)
def best(
    variants: list,
    models: dsl.Input[List[dsl.Model]],  # noqa: UP006
    scorecards: dsl.Input[List[dsl.Artifact]],  # noqa: UP006
    model: dsl.Output[dsl.Model],
    scorecard: dsl.Output[dsl.Artifact],
) -> str:
    """Choose the variant that is best by the gate's target; the others go no further.

    Args:
        variants: What each variant changed.
        models: The variants' models, in this order.
        scorecards: Their scorecards, on the same questions.
        model: The best one's model.
        scorecard: Its scorecard.

    Returns:
        Which variant it is.
    """
    from vistune.component import best

    return best(variants, models, scorecards, model, scorecard)
