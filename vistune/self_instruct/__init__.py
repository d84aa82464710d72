"""Self-instruct: new dialogues about annotated images, written by a teacher that reads the annotations as text.

render -> prompt -> teacher -> parse -> filter: `AnnotatedImage` -> `Sample`. After LLaVA (arXiv 2304.08485), with the
negatives of LRV-Instruction (arXiv 2306.14565). The teacher is the embedded grammar (rules, no model) or any
OpenAI-compatible endpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from vistune.stages import Context


@dataclass(frozen=True)
class Params:
    teacher: Literal["grammar", "openai"] = "grammar"
    images: int = 400  # how many training images get dialogues, drawn by keyed hash; 0 leaves the stage empty
    # kind -> share of these images that get it
    kinds: dict[str, float] = field(
        default_factory=lambda: {"conversation": 1.0, "detail": 0.5, "reasoning": 0.75, "negative": 0.75}
    )
    max_requests: int = 10_000  # of one release, repeated questions after unusable replies included
    reasks: int = 2  # how often a reply that cannot be parsed is asked for again

    # Only for the openai teacher.
    model: str = ""
    base_url: str = ""  # "" is the client's default (or its own OPENAI_BASE_URL)
    api_key_env: str = "OPENAI_API_KEY"  # name of the environment variable that holds the key
    temperature: float | None = 0.7  # null: not sent, the server decides
    top_p: float | None = 0.95
    max_tokens: int | None = 1024
    extra: dict[str, Any] = field(default_factory=dict)  # further fields of the request body, e.g. response_format
    concurrency: int = 4
    timeout: float = 120.0  # seconds for one attempt
    max_retries: int = 6  # further attempts of one request after a failure that may pass
    backoff: float = 1.0  # seconds before the first of these, doubled for each next one
    max_unanswered: int = 10  # requests that may stay without an answer before the stage gives up


def run(params: Params, inputs: Mapping[str, Path], output: Path, context: Context) -> dict[str, Any]:
    """Reads `sources`, writes samples, rejects and `requests.jsonl` (what was asked and answered)."""
    from vistune.self_instruct.generate import choose_images, generate
    from vistune.self_instruct.teachers import build_teacher

    with build_teacher(params, context) as teacher:  # before any work: a missing key is an error now
        images, rejects = choose_images(inputs["sources"], params, context.seed)
        return generate(images, rejects, teacher, params, output, context)


def run_part(
    params: Params, inputs: Mapping[str, Path], output: Path, context: Context, part: tuple[int, int]
) -> dict[str, Any]:
    """`run` for part `part[0]` (from 0) of `part[1]`; `merge` makes one output of them all. Each part has a ledger of
    its own, so that parts on one volume do not wait for each other."""
    import dataclasses

    from vistune.self_instruct.generate import choose_images
    from vistune.self_instruct.parts import run_part
    from vistune.self_instruct.teachers import build_teacher

    own = dataclasses.replace(context, home=context.home / "parts" / f"{part[0]}-of-{part[1]}")
    with build_teacher(params, own) as teacher:
        images, rejects = choose_images(inputs["sources"], params, context.seed)
        return run_part(images, rejects, teacher, params, output, own, part)


def merge(
    params: Params, inputs: Mapping[str, Path], output: Path, context: Context, parts: Sequence[Path]
) -> dict[str, Any]:
    """What `run` writes, byte for byte, from the outputs of all parts."""
    from vistune.self_instruct.parts import merge

    return merge(params, output, context, parts)
