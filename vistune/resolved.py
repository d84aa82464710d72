"""What `resolve` makes of the parameters: every reference that may move becomes one that does not.

Kubeflow's cache and the lineage know a step by its parameters. So what they name is looked up once, before any other
step, and all later steps take the answer: data under DVC by commit and md5, models of the hub by commit. Prompts,
templates and code are known by digest (`component.ids_of`); the image of the steps by its own (see containerimage).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

from vistune import lineage
from vistune.pins import MODELS, hub, named, texts
from vistune.stages import STAGES, module

FILLED = "filled"
"""Under `ids` of tune's settings: parameters that were empty and name the family's own weights now."""

PACKAGED = "small"
"""The family whose own weights are packages in the image: nothing of it can move."""


def pinned(tree: Mapping[str, Any], stages: Collection[str] = STAGES) -> tuple[dict[str, Any], list[str]]:
    """The parameters with what they name now, said line by line; and which of tune's were empty and are filled in.
    stages: that the pipeline runs; for the others nothing is asked. Raises VistuneError where a revision, a path or a
    model is not there, or cannot be asked for."""
    found = {name: lineage.pinned(section) if name in stages else section for name, section in tree.items()}
    filled: list[str] = []
    if "tune" in stages:
        found["tune"], filled = models(found.get("tune") or {})
    before = dict(texts(tree))
    for name, now in texts(found):
        if now != before.get(name, ""):
            print(f"{name}: {before.get(name) or 'of the family'} is {now.removeprefix(before.get(name) or '@')}")
    image = os.environ.get("VISTUNE_IMAGE", "")
    if image:
        print(f"image: {image}" + ("" if "@sha256:" in image else ", by a tag that may move"))
    return found, filled


def models(section: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The parameters of `tune` with the commits of the models they name, and the names of those that were empty.
    Where the family's own weights come from the hub, they are named too."""
    default = module("tune").Params()
    if not hasattr(default, "family"):
        return dict(section), []
    found = dict(section)
    kind = found.get("family") or default.family
    filled = []
    if kind != PACKAGED:
        from vistune.models import family

        preset = family(kind).preset(found.get("preset") or next(iter(family(kind).presets)))
        for name in MODELS:
            own = getattr(preset, name)
            if own and not found.get(name):
                found[name] = own
                filled.append(name)
    for name in (*MODELS, *named(kind)):
        if found.get(name):
            found[name] = ",".join(hub(part) for part in str(found[name]).split(","))
    return found, filled
