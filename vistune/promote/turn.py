"""One promotion of a model at a time, whatever the machine: what MLflow has no lock for.

Who moves an alias claims the model first (a tag of its own on the registered model) and then looks for claims of
others. Of two that claim at once at least one sees the other and steps back, so never do both go on.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator

from vistune import tracking
from vistune.errors import VistuneError
from vistune.promote.journal import who

CLAIM = "promotion.claim."

LAPSES = 600.0
"""Seconds after which the claim of a process that was killed counts no longer; a move takes a few."""

TRIES = 20


@contextlib.contextmanager
def turn(name: str) -> Iterator[None]:
    """Holds the only claim on the registered model `name`. Raises VistuneError when another keeps it."""
    own = uuid.uuid4()
    key, pause = CLAIM + own.hex, 0.1 + own.int % 900 / 1000  # two that step back come again at different times
    try:
        for _ in range(TRIES):
            tracking.set_model_tag(name, key, f"{time.time():.0f} {who()}")
            others = _others(name, key)
            if not others:
                yield
                return
            tracking.delete_model_tag(name, key)
            time.sleep(pause)
    finally:
        if key in tracking.model_tags(name):
            tracking.delete_model_tag(name, key)
    raise VistuneError(
        f"{others[0].partition(' ')[2]} is promoting another version of {name}; nothing was moved. Run again when that "
        f"is done; the claim of a process that was killed lapses after {LAPSES / 60:.0f} minutes."
    )


def _others(name: str, key: str) -> list[str]:
    now = time.time()
    claims = {k: v for k, v in tracking.model_tags(name).items() if k.startswith(CLAIM) and k != key}
    return [v for v in claims.values() if now - float(v.partition(" ")[0]) < LAPSES]
