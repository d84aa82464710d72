"""What a view plan costs: microseconds for each policy, over 100,000 random picture sizes. Prints one JSON line."""

import json
import random
import time

from vistune.models import views_derived as derived
from vistune.models.views import Letterbox, Native, Policy, Square
from vistune.models.views_slices import Slices, llava_uhd
from vistune.models.views_tiles import AnyRes, ClosestRatio, square_grids

SIZES = 100_000
LIMIT = 20.0  # microseconds a plan

POLICIES: dict[str, Policy] = {
    "square crop": Square(336, "crop"),
    "square pad": Square(336, "pad"),
    "square stretch": Square(448, "stretch"),
    "square widen": Square(448, "widen"),
    "letterbox": Letterbox(384),
    "native": Native(),
    "anyres": AnyRes(),
    "anyres max 9, 36 canvases": AnyRes(square_grids(6, 384), 384, most=9),
    "closest ratio 12": ClosestRatio(most=12),
    "closest ratio 40": ClosestRatio(most=40),
    "slices minicpm": Slices(),
    "slices uhd": llava_uhd(),
    "slices uhd evaluation": llava_uhd(long_side=1024),
    "windows monkey": derived.monkey(),
    "dual llava-hr": derived.llava_hr(),
    "dual mini-gemini hd": derived.mini_gemini(1536, grid=2),
    "dual deepseek hybrid": derived.deepseek_hybrid(),
    "dual cogagent": derived.cogagent(),
    "parts sphinx": derived.sphinx(2),
    "parts sphinx light": derived.sphinx_light(2),
}


def main() -> None:
    draw = random.Random(0)
    sizes = [(draw.randint(28, 4096), draw.randint(28, 4096)) for _ in range(SIZES)]
    cost = {}
    for name, policy in POLICIES.items():
        start = time.process_time()
        for width, height in sizes:
            policy.plan(width, height)
        cost[name] = round((time.process_time() - start) / SIZES * 1e6, 2)
    print(json.dumps({"bench": "views", "us_per_plan": cost, "worst": max(cost.values()), "limit_us": LIMIT}))


if __name__ == "__main__":
    main()
