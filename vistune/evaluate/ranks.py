"""Processes that answer together (torch.distributed): each computes a share of the batches, all have all values.

Either all of them ask the same (lm-eval started by torchrun), or the first one runs the stage and says what is asked,
and the others follow. What they tell one another are objects in main memory, by gloo: it notices at once when a process
is gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

PATIENCE = timedelta(days=7)
"""How long a process waits for the others, who may be decoding pictures or asking a judge."""


@dataclass(frozen=True)
class Team:
    rank: int = 0
    size: int = 1
    led: bool = False  # the first one says what is asked

    def gathered(self, mine: Any) -> list[Any]:
        """What each has, in their order."""
        if self.size == 1:
            return [mine]
        from torch import distributed

        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, mine)
        return found

    def tell(self, message: Any = None) -> Any:
        """The first process's message, on all of them; nothing happens where none of them leads."""
        if not self.led or self.size == 1:
            return message
        from torch import distributed

        told = [message]
        distributed.broadcast_object_list(told, src=0)
        return told[0]


ALONE = Team()


def together() -> Team:
    """The processes that were started beside this one, all of which ask the same."""
    from torch import distributed

    ready = distributed.is_available() and distributed.is_initialized()
    return Team(distributed.get_rank(), distributed.get_world_size()) if ready else ALONE


def led() -> Team:
    """The same, but the first one says what is asked. They meet here, the first time."""
    from torch import distributed

    if not distributed.is_initialized():
        distributed.init_process_group("gloo", timeout=PATIENCE)
    return Team(distributed.get_rank(), distributed.get_world_size(), led=True)
