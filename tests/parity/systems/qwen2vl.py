"""Qwen2-VL."""

from collections.abc import Iterator
from types import SimpleNamespace

import torch
from harness import Case, Fixture, same
from systems._modules_qwen import QWEN2VL
from systems._texts import TEXTS
from systems._views import BYTES, compare, draw, drawn
from transformers import Qwen2VLConfig, Qwen2VLModel

from vistune.models.pixels import merged_patches
from vistune.models.views import Native

IMAGE_PAD = 151
"""The token id that the fixture's sequences use."""

RULES = {
    "qwen_vl_utils": Native(),
    "transformers": Native(least=56 * 56, most=14 * 14 * 4 * 1280, transformers=True),
}


def views(fixture: Fixture) -> Iterator[Case]:
    yield from compare(fixture, fixture.json["cases"], lambda key, *size: view_plan(RULES[key], *size))
    for case in fixture.json["other_limits"]:
        least, most = case["in"]["min_pixels"], case["in"]["max_pixels"]
        policies = {key: Native(least, most, transformers=rule.transformers) for key, rule in RULES.items()}
        for compared in compare(fixture, [case], lambda key, *size, p=policies: view_plan(p[key], *size)):
            yield Case(f"{compared.name} {least}..{most}", compared.passed, compared.difference, compared.detail)
    for n, case in enumerate(fixture.json["mrope_index"]):
        yield same(f"{fixture.name} positions {n}", positions(case["in"]), case["out"])


def positions(case: dict) -> dict:
    """M-RoPE's three coordinates of each token: transformers' own, which the family uses."""
    model = SimpleNamespace(config=Qwen2VLConfig())
    model.get_vision_position_ids = Qwen2VLModel.get_vision_position_ids.__get__(model)
    ids, mask = torch.tensor(case["input_ids"]), torch.tensor(case["attention_mask"])
    grids = torch.tensor(case["image_grid_thw"]) if case["image_grid_thw"] else None
    image = (ids == IMAGE_PAD).int()
    where, deltas = Qwen2VLModel.get_rope_index(model, ids, image, grids, attention_mask=mask)
    return {"position_ids": where.tolist(), "rope_deltas": deltas.tolist()}


def view_plan(policy: Native, width: int, height: int) -> dict:
    plan = policy.plan(width, height)
    rows, columns = plan.views[0].patches
    return {
        "resized_hw": plan.views[0].size[::-1],
        "grid_thw": [1, rows, columns],
        "patches": rows * columns,
        "llm_tokens": plan.tokens,
    }


def native_pixels(variant: str, picture) -> dict:
    """`hf_default`, `hf_min784_max3136`; `utils_fetch_image`, the picture before the processor."""
    if variant == "utils_fetch_image":
        picture = draw(RULES["qwen_vl_utils"], picture, BYTES)[0]
        return {f"{variant}.rgb_uint8": picture.byte().permute(1, 2, 0)}
    policy = RULES["transformers"]
    if variant != "hf_default":
        least, most = (int(part.lstrip("minax")) for part in variant.split("_")[1:])
        policy = Native(least, most, transformers=True)
    rows, columns = policy.plan(*picture.size).views[0].patches
    return {
        f"{variant}.pixel_values": merged_patches(draw(policy, picture)[0]),
        f"{variant}.grid_thw": torch.tensor([[1, rows, columns]]),
    }


CHECKS = {
    "views": views,
    "pixels": drawn(native_pixels),
    **TEXTS["qwen2vl"],
    **QWEN2VL,
}
