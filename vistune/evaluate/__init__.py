"""evaluate: base and tuned model -> scorecard with intervals, per-item answers, and the gate's verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from vistune.stages import Context


@dataclass(frozen=True)
class Conditions:
    """What each model is shown: the true image, the image of another item, a grey one, or none."""

    base: tuple[Literal["image", "shuffled", "blank", "none"], ...] = ("image",)
    tuned: tuple[Literal["image", "shuffled", "blank", "none"], ...] = ("image", "shuffled", "blank", "none")


@dataclass(frozen=True)
class Connection:
    """A chat model behind an OpenAI-compatible server."""

    model: str = ""
    base_url: str = ""  # "" is the client's default (or its own OPENAI_BASE_URL)
    api_key_env: str = "OPENAI_API_KEY"  # name of the environment variable that holds the key
    concurrency: int = 4
    timeout: float = 120.0  # seconds for one attempt
    max_retries: int = 6  # further attempts of one request after a failure that may pass
    backoff: float = 1.0  # seconds before the first of these, doubled for each next one
    max_unanswered: int = 10  # requests that may stay without an answer before the stage gives up


@dataclass(frozen=True)
class Judge(Connection):
    """The chat model that reads open answers (MM-Vet, LLaVA-Bench, GAVIE, HallusionBench). Without a model's name there
    is no judge, and a suite that needs one is refused."""

    votes: int = 1  # how often each answer is judged; their spread is reported
    temperature: float | None = None  # null: as the benchmark's authors set it
    max_tokens: int | None = None  # likewise


@dataclass(frozen=True)
class Server(Connection):
    """A model that is evaluated beside ours (vLLM, SGLang, an API)."""

    conditions: tuple[Literal["image", "shuffled", "blank", "none"], ...] = ("image",)
    extra: dict[str, Any] = field(default_factory=dict)  # further fields of the request body; null takes one out


@dataclass(frozen=True)
class Params:
    suite: str = "demo"  # a file in eval/suites
    gate: str = "demo"  # a file in eval/gates
    data: str = ""  # folder of published benchmarks, one folder each; the demo's come from the sources
    limit: int | None = 28  # images per benchmark, chosen by their digests; null: all
    conditions: Conditions = field(default_factory=Conditions)
    servers: dict[str, Server] = field(default_factory=dict)  # name on the scorecard -> a model behind a server
    judge: Judge = field(default_factory=Judge)
    trained_on: tuple[str, ...] = ()  # data sets that the base model learned from before, as in eval/clusters.yaml
    evidence: str = ""  # file of what other models saw in the images, for families that take it (MoAI)
    processes: int = 0  # that answer together; 0: one per GPU, or one without GPUs. The result is the same
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"  # auto: bfloat16 where the processor computes in it
    batch_tokens: int = 2048  # tokens of one forward pass, padding included
    generated_images: int = 12  # images per benchmark that is also answered in free text
    max_new_tokens: int = 12
    replicates: int = 2000  # of the bootstrap
    confidence: float = 0.95  # of the intervals on the scorecard; the gate has its own
    candidates: int = 1  # models of which the best is put forward: the gate's confidence is raised for their number


def fingerprint(params: Params) -> str:
    """A digest of what the result depends on besides `params` and inputs: the files of published benchmarks."""
    from vistune.pins import tracked

    if not params.data or tracked(params.data):  # a pinned reference says what it holds
        return ""
    from vistune.evaluate.benchmarks.documents import fingerprint

    return fingerprint(Path(params.data))


def run(params: Params, inputs: Mapping[str, Path], output: Path, context: Context) -> dict[str, Any]:
    """Scores `tune/base` and `tune/model` on the benchmarks of `sources`, none of whose images may be in the release
    (`validate`). Answers are logged as they come under the run's home, so a killed run repeats no finished batch."""
    from vistune.evaluate.launch import launch

    return launch(params, inputs, output, context)
