"""Fails the run when the tuned model was not good enough, for CI."""

import os

from kfp import dsl


@dsl.component(base_image=os.environ.get("VISTUNE_IMAGE", "vistune:dev"), install_kfp_package=False)
def verdict(found: str):
    """Fail the pipeline run: the tuned model did not pass and `require_pass` is set.

    Args:
        found: The verdict of `promote`.
    """
    from vistune.component import require_pass

    require_pass(found)
