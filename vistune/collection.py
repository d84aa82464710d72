"""Work that makes many objects and no garbage, without Python's cyclic garbage collector."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Without the cyclic garbage collector: records and parsed files hold no cycles, and walking their millions of
    objects again and again takes a third of the time of `json.load`. What is left of them counts as old afterwards, or
    the first collection would walk it all."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled and not gc.get_freeze_count():
            gc.freeze()
            gc.unfreeze()  # into the oldest generation
        if enabled:
            gc.enable()
