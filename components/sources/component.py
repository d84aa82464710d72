"""Where data enters: the demo corpus, or annotated images of your own."""

import os

from kfp import dsl


@dsl.component(base_image=os.environ.get("VISTUNE_IMAGE", "vistune:dev"), install_kfp_package=False)
def sources(settings: str, data: dsl.Output[dsl.Dataset], metrics: dsl.Output[dsl.Metrics]):
    """Compose the demo corpus, or collect your own annotated images.

    Args:
        settings: The stage's parameters, from `resolve`.
        data: Images and annotation files (COCO, VQA), listed by sources.json.
        metrics: How many scenes and questions.
    """
    from vistune.component import step

    step("sources", settings, {}, data, metrics)
