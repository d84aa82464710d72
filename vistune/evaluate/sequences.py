"""Whole sequences, for models whose prefixes cannot be shared: each question with each of its answers is a row.

What a model known by its processor alone does inside is not known: it may let what stands behind a picture change what
it sees in it, keep a cache of another kind, or count positions its own way. `differs` tries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from vistune.errors import VistuneError
from vistune.evaluate.questions import Question, before
from vistune.hashing import digest
from vistune.records import Message

if TYPE_CHECKING:
    from vistune.evaluate.engine import Engine, Visit
    from vistune.evaluate.prefixes import Trunk
    from vistune.models.families.base import Picture

CLOSE = {torch.float32: 1e-3}
"""Nats a token by which two ways of computing the same differ at most."""

ROUGH = 0.15
"""The same in 16 bits."""

FAILURES = (VistuneError, RuntimeError, ValueError, TypeError, AttributeError, LookupError)
"""What models raise that do not take a mask, positions or a cache as they are given here."""


def run(trunk: Trunk, batch: Sequence[Visit], pictures: Sequence[Picture], seen: Sequence[Any] = ()) -> dict[Any, Any]:
    """The values of all parts, as `decoding.run` gives them. Each visit is one row."""
    reader, model = trunk.reader, trunk.model
    readings = [visit.prefix for visit in batch]
    inputs = reader.batch(readings, [pictures], "left")
    inputs.pop("labels")
    inputs = {k: v.to(trunk.device) if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
    asked = [visit.asked[0] for visit in batch]
    if not asked[0].ask.answers:
        return _generated(trunk, batch, inputs)
    keep = max(len(one.ask.answers[0]) for one in asked) + 1
    logits = model(**inputs, logits_to_keep=keep, use_cache=False).logits.float()
    found: dict[Any, Any] = {}
    for visit, one, row in zip(batch, asked, logits, strict=True):
        wanted = torch.tensor(one.ask.answers[0], device=row.device)
        states = row[-len(wanted) - 1 : -1]
        logprobs = states.log_softmax(-1).gather(1, wanted[:, None])[:, 0]
        found[visit.parts[0]] = [math.fsum(logprobs.tolist()), bool((states.argmax(-1) == wanted).all()), len(wanted)]
    return found


def _generated(trunk: Trunk, batch: Sequence[Visit], inputs: dict[str, Any]) -> dict[Any, Any]:
    asked = [visit.asked[0] for visit in batch]
    tokenizer = trunk.reader.tokenizer
    stops = sorted({stop for one in asked for stop in (*trunk.stop, *one.stops)}) if len(batch) == 1 else trunk.stop
    more: dict[str, Any] = {"stop_strings": list(stops), "tokenizer": tokenizer} if stops else {}
    length = inputs["input_ids"].shape[1]
    rows = trunk.model.generate(
        **inputs,
        do_sample=False,
        num_beams=1,
        max_new_tokens=max(one.longest for one in asked),
        eos_token_id=sorted(trunk.ends) or None,
        pad_token_id=trunk.reader.pad_id,
        **more,
    )[:, length:].tolist()
    found: dict[Any, Any] = {}
    for visit, one, row in zip(batch, asked, rows, strict=True):
        end = next((n for n, token in enumerate(row) if token in trunk.ends), len(row))
        ids = row[: min(end, one.longest)]
        text = tokenizer.decode(ids, skip_special_tokens=True)
        cut = before(text, (*trunk.stop, *one.stops))
        ended = end < min(len(row), one.longest) or len(ids) < one.longest or cut != text.strip()
        found[visit.parts[0]] = [cut, "stop" if ended else "length"]
    return found


def differs(engine: Engine) -> str:
    """Why shared prefixes do not give what whole sequences give; nothing where they do."""
    from PIL import Image

    noise = bytes.fromhex(digest("probe")) * (40 * 30 * 3 // 32 + 1)
    image = engine.pictures.take(Image.frombytes("RGB", (40, 30), noise[: 40 * 30 * 3]))
    texts, answers = ("What is on the left?", "Is there a cat in it?"), ("a dog", "yes")
    questions = [Question((Message("user", text, (0,)),), (image,), answers, task="probe") for text in texts]
    values: list[dict[Any, Any]] = []
    try:
        for engine.sharing in ("nothing", "pictures"):
            values.append({})
            for _, found in engine.stream(engine.plan(questions)):
                values[-1] |= found
    except FAILURES as error:
        if engine.sharing == "nothing":
            raise
        return f"{type(error).__name__}: {error}".splitlines()[0]
    finally:
        engine.tokens = 0
    close = CLOSE.get(engine.vlm.model.dtype, ROUGH)
    worst = max(abs(value[0] - values[1][part][0]) / value[2] for part, value in values[0].items())
    return "" if worst <= close else f"log-probabilities differ by {worst:.2g} nats a token"
