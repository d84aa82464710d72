"""tune: release -> model. Any list of training stages; by default alignment, then instruction.

Each stage starts from the last one's weights, trains the roles that have a learning rate, and reads its own mixture
of the release. The samples of one image share its visual prefix and cannot see each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vistune.jobs import JobParams

if TYPE_CHECKING:
    from vistune.stages import Context


@dataclass(frozen=True)
class StageParams:
    """One training stage."""

    name: str
    objective: Literal["embedding", "caption", "instruct"]
    """embedding: match grid cells to the language model's word embeddings of what they show (names and boxes).
    caption: predict captions through the frozen language model, as LLaVA published it.
    instruct: predict the answers of all tasks in the mixture."""
    learning_rates: dict[str, float]  # role (vision, connector, language, head) -> peak rate; absent = frozen
    steps: int = 0  # 0: as many as `epochs` take
    epochs: float = 0.0  # over the pictures of the stage's samples; read only where `steps` is 0
    batch: int = 4  # packs a step over all processes; for `embedding`, grid cells a step
    samples: int = 0  # samples a step over all processes, in as many packs as they need; 0: `batch` packs a step
    together: int = 0  # packs of one forward pass of a process; 0: all it has in a step
    datasets: tuple[str, ...] = ()  # of the release; empty: all
    alpha: float = 1.0  # a data set's share of an epoch goes with its size to this power; 1: as they are, 0: all alike
    caps: dict[str, int] = field(default_factory=dict)  # data set -> pictures that an epoch reads of it at most
    images: int = 0  # of these data sets, drawn by keyed hash; 0: all
    languages: tuple[str, ...] = ("en",)
    mixture: dict[str, int] = field(default_factory=dict)  # task -> samples per image and visit; empty: one of each
    max_tokens: int = 320  # of a pack; longer samples are left out of this stage, with their ids
    max_patches: int = 0  # of a pack's pictures, as the vision encoder sees them; 0: no limit
    longest: int = 0  # tokens of a sample behind its pictures; longer ones are left out as well; 0: no limit
    warmup: float = 0.05  # share of the steps
    weighting: Literal["token", "sample", "square"] = "square"  # answer weight 1, 1/length, 1/sqrt(length)
    clip: float = 1.0  # global gradient norm; 0 = off
    weight_decay: float = 0.0  # of matrices; norms and biases do not decay
    layer_decay: float = 1.0  # a vision layer's rate over that of the layer above it; 1: all alike
    lora: dict[str, int] = field(default_factory=dict)  # role -> rank: its weights rest, low-rank updates train
    quantised: dict[str, Literal["nf4"]] = field(default_factory=dict)  # role with LoRA -> 4 bits its weights rest in
    temperature: float = 0.07  # of the cosine softmax (embedding)
    smoothing: float = 0.05  # label smoothing (embedding)
    gradient_checkpointing: bool = False  # layers run again in the backward pass instead of being kept: slower, smaller
    checkpoint_every: int = 60  # steps; 0 = only at the end of the stage
    answers: int = 4  # held-out questions that the model answers at every checkpoint; not with ZeRO-3
    template: str = ""  # chat template of this stage; empty: the model's own
    settings: dict[str, Any] = field(default_factory=dict)  # of the model's preset that differ in this stage


@dataclass(frozen=True)
class Params:
    family: str = "small"
    preset: str = ""  # of the family; empty: its first
    vision: str = ""  # weights of the vision tower; empty: the family's own
    language: str = ""  # weights of the language model; empty: the family's own
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"  # of the language model; masters are always float32
    threads: int = 0  # CPU threads per process; 0: all cores
    processes: int = 0  # 0: one per GPU, or one without GPUs
    zero: Literal[0, 1, 2, 3] = 0  # DeepSpeed ZeRO stage; 0 with one process runs without DeepSpeed
    offload: bool = False  # with ZeRO 1 to 3: the optimiser's state and its steps in the machine's own memory
    workers: int = 0  # processes that prepare batches ahead, for each training process
    evidence: str = ""  # file of what other models saw in the images, for families that take it (MoAI)
    cache_features: bool = True  # keep a frozen tower's features on disk instead of computing them each visit
    job: JobParams = field(default_factory=JobParams)
    stages: tuple[StageParams, ...] = ()  # empty: the published recipe of the preset


def run(params: Params, inputs: Mapping[str, Path], output: Path, context: Context) -> dict[str, Any]:
    """Writes base/ (after the first stage), model/ (after the last), history.jsonl, answers/, plan.json, roles.json."""
    from vistune.tune.launch import launch

    return launch(params, inputs["validate"], output, context)
