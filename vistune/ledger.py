"""The request ledger: every answer a paid teacher gave, so that no request is paid for twice, in any run.

Append-only JSON lines, one answer each, on disk before anybody sees it. A last line cut short by a crash is dropped
when the ledger is opened; its request counts as never answered. One process holds a ledger at a time. It stores ids,
the prompts' names, what was said about the image, replies and token counts: nothing of the connection, no key.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from vistune.errors import VistuneError
from vistune.exchange import Reply, Request
from vistune.hashing import canonical, digest


def ledger_path(home: Path, model: str) -> Path:
    """One ledger for each model: two runs with different models do not wait for each other."""
    plain = re.sub(r"[^A-Za-z0-9.]+", "-", model).strip("-.")[:40]
    return home / "ledger" / f"{plain}-{digest(model)[:8]}.jsonl"


class Ledger:
    """`with Ledger(path) as ledger: ledger.get(id) or ledger.record(request, reply)`. Safe to use from threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._replies: dict[str, Reply] = {}
        self._mutex = threading.Lock()

    def __enter__(self) -> Ledger:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"vistune: waiting for another run that uses {self.path.name}", file=sys.stderr, flush=True)
            fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            self._load()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()  # releases the lock

    def __len__(self) -> int:
        return len(self._replies)

    def get(self, request: str) -> Reply | None:
        return self._replies.get(request)

    def record(self, request: Request, reply: Reply) -> None:
        """Writes an answer and waits until it is on disk. The first answer to a request stays."""
        row = {
            "id": request.id,
            "kind": request.kind,
            "prompt": request.prompt,
            "attempt": request.attempt,
            "input": request.messages[-1]["content"],
            "status": reply.status,
            "reply": reply.text,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "model": reply.model,
        }
        with self._mutex:
            if request.id in self._replies:
                return
            self._file.write(canonical(row) + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            self._replies[request.id] = reply

    def _load(self) -> None:
        self._file.seek(0)
        good, ended = 0, True
        for number, line in enumerate(self._file, start=1):
            try:
                row: dict[str, Any] = json.loads(line)
                counts = (row.get("prompt_tokens"), row.get("completion_tokens"))
                reply = Reply(row["id"], row["status"], row["reply"], *counts, row.get("model", ""))
            except (ValueError, KeyError, TypeError, AttributeError):
                if not line.endswith(b"\n"):
                    break  # the last line, cut short
                raise VistuneError(
                    f"the request ledger {self.path} is damaged at line {number}. It holds answers that were paid for, "
                    "so nothing is repaired silently: remove that line (its request is then asked again), or move the "
                    "file away to ask for everything anew."
                ) from None
            good, ended = good + len(line), line.endswith(b"\n")
            self._replies.setdefault(reply.request, reply)
        self._file.truncate(good)
        if not ended:
            self._file.write(b"\n")
