"""MiniCPM-V's resamplers and the encoder of 2.6."""

from __future__ import annotations

from harness import Unit, modules
from transformers import SiglipVisionConfig, SiglipVisionModel

from vistune.models.connectors.resampler import Resampler, ResamplerConfig, resampler_keys
from vistune.models.encoders.features import Selection
from vistune.models.encoders.siglip import SiglipTower, siglip_keys


class Resample(Unit):
    """2.0, whose queries have positions, if the configuration names their grid; else 2.5 and 2.6."""

    def __init__(self, config):
        super().__init__()
        placed = "grid_size" in config
        queries = config["grid_size"] ** 2 if placed else config["num_queries"]
        width = config["embed_dim"]
        self.resampler = Resampler(
            ResamplerConfig(config["kv_dim"], width, queries, config["num_heads"], placed, key_positions="sincos")
        )

    def convert(self, weights):
        return {f"resampler.{key}": tensor for key, tensor in resampler_keys(weights).items()}

    def forward(self, x, tgt_size=None, tgt_sizes=None):
        if tgt_sizes is None:
            rows, columns = tgt_size.tolist()
            return {"y": self.resampler(x, (rows, columns))}
        return {"y": self.resampler(x, [(rows, columns) for rows, columns in tgt_sizes.tolist()])}


class Tower(Unit):
    def __init__(self, config):
        super().__init__()
        vision = SiglipVisionConfig(**config, patch_size=14, hidden_act="gelu_pytorch_tanh", vision_use_head=False)
        self.tower = SiglipTower(SiglipVisionModel(vision), Selection((-2,), "never", norm=True), "bucket")

    def convert(self, weights):
        return {f"tower.{key}": tensor for key, tensor in siglip_keys(weights, self.tower).items()}

    def forward(self, pixel_values, tgt_sizes):
        return {"last_hidden_state": self.tower(pixel_values, [(r, c) for r, c in tgt_sizes.tolist()])}


MINICPMV = {
    "resampler_v20": modules(Resample),
    "resampler_v25": modules(Resample),
    "resampler_v26": modules(Resample),
    "vpm_v26": modules(Tower),
}
