"""CogVLM and CogAgent."""

from systems._modules_cogvlm import COGVLM_MODULES
from systems._texts import TEXTS
from systems._views import planned, stretched_pixels

from vistune.models.views import Square
from vistune.models.views_derived import cogagent


def views(key: str, width: int, height: int) -> object:
    if key == "cogagent":
        plan = cogagent().plan(width, height)
        low, high = plan.views
        return {
            "low": {"size": low.size, "tokens_in_sequence": plan.tokens},
            "high": {"size": high.size, "cross_tokens": high.patches[0] * high.patches[1]},
        }
    if not key.startswith("cogvlm"):
        return {"strategy": "stretch", "crops": [(0, 0, width, height)]}[key]
    size = int(key.split("_")[1])
    patches = (size // 14) ** 2
    plan = Square(size, "stretch", tokens=patches + 2).plan(width, height)  # a learned token on either side
    found = {"size": plan.canvas[0].size, "tokens_in_sequence": plan.tokens}
    return found | ({"order": f"boi,{patches} patches row-major,eoi"} if size == 224 else {})


CHECKS = {
    "views": planned(views),
    "pixels": stretched_pixels(),
    **TEXTS["cogvlm"],
    **COGVLM_MODULES,
}
