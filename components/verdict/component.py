"""Fails the run when the tuned model was not good enough, for CI."""

import os

from kfp import dsl


@dsl.component(base_image=os.environ.get("VISTUNE_IMAGE", "vistune:dev"), install_kfp_package=False)
def verdict_fail():
    """Fail the pipeline run: the tuned model did not pass its gate, and `require_pass` is set."""
    from vistune.component import require_pass

    require_pass("fail")


@dsl.component(base_image=os.environ.get("VISTUNE_IMAGE", "vistune:dev"), install_kfp_package=False)
def verdict_inconclusive():
    """Fail the pipeline run: the evidence decides nothing, and `require_pass` is set."""
    from vistune.component import require_pass

    require_pass("inconclusive")
