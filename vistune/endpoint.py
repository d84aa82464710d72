"""A chat model behind an OpenAI-compatible endpoint: bounded concurrency, retries, a ledger of what was answered.

The client's own retries are off. Here a failure that may pass (no connection, timeout, 408, 409, 429, 5xx, a response
that is no chat completion) is tried again after an exponential pause with keyed jitter, or after what `Retry-After`
asks for; a failure that will not pass (a wrong key, a wrong name, a malformed request) ends the stage with one
paragraph. Every answer is in the ledger before it is used: a run that dies pays again at most for what was under way.
"""

from __future__ import annotations

import email.utils
import json
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, Protocol

from vistune.errors import VistuneError
from vistune.exchange import Reply, Request, Status, Usage
from vistune.hashing import uniform
from vistune.ledger import Ledger

MAX_PAUSE = 60.0
"""Seconds; longest pause of our own. What a server asks for may be longer, up to `MAX_WAIT`."""

MAX_WAIT = 600.0

SECRET_LENGTH = 12

PASSING = {408, 409, 425, 429}
"""Statuses below 500 that may pass by themselves."""

HINTS = {
    400: "The server does not accept the request: check {section}.model, max_tokens and extra.",
    401: "The server does not accept the key in the variable named by {section}.api_key_env.",
    402: "The account cannot pay for the request.",
    403: "The key may not use this model or endpoint.",
    404: "The server knows no such model or address: check {section}.model and base_url.",
}


class Settings(Protocol):
    """The parameters of a connection, as the sections of params.yaml that ask a chat model have them."""

    @property
    def model(self) -> str: ...
    @property
    def base_url(self) -> str: ...
    @property
    def api_key_env(self) -> str: ...
    @property
    def concurrency(self) -> int: ...
    @property
    def timeout(self) -> float: ...
    @property
    def max_retries(self) -> int: ...
    @property
    def backoff(self) -> float: ...
    @property
    def max_unanswered(self) -> int: ...


def api_key(params: Settings, section: str, otherwise: str = "") -> str:
    """The key, from the environment. Raises VistuneError when the key or the model's name is missing. `section` of the
    parameters; `otherwise`: what can be done without a key."""
    key = os.environ.get(params.api_key_env, "").strip()
    if not key:
        raise VistuneError(
            f"{section} needs a key: the environment variable {params.api_key_env} is not set or empty. Set it (a "
            f"local server takes any value){',' if otherwise else ' or'} name another variable in {section}.api_key_env"
            f"{f', or {otherwise}' if otherwise else ''}."
        )
    if not params.model:
        raise VistuneError(f"{section}.model is empty: set it to the name of the model to ask.")
    return key


class Passing(Exception):
    """A failure that may pass; `wait` is how many seconds the server asks for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class Endpoint:
    """One endpoint and model. Use inside the ledger's `with`."""

    def __init__(self, params: Settings, key: str, ledger: Ledger, section: str) -> None:
        self.model = params.model
        self.name = f"openai:{params.model}"
        self.usage = Usage()
        self.params = params
        self._key, self._ledger, self._section = key, ledger, section
        self._client: Any = None
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._mutex = threading.Lock()

    def ask(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Replies as they arrive, each request asked once however often it is given. When the caller stops early, or
        one request fails for good, nothing more is sent and what is under way still reaches the ledger."""
        waiting: dict[str, Request] = {}
        for request in requests:
            known = self._ledger.get(request.id)
            if known is None:
                waiting.setdefault(request.id, request)
            else:
                self.usage.reused += 1
                yield known
        if not waiting:
            return
        self._stop.clear()
        with ThreadPoolExecutor(self.params.concurrency, thread_name_prefix="endpoint") as pool:
            try:
                self._connect()
                for future in as_completed([pool.submit(self._answer, request) for request in waiting.values()]):
                    reply = future.result()
                    if self._failure is not None:
                        raise self._failure
                    if reply.status == "unanswered":
                        self._tolerate(reply)
                    yield reply
            finally:
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)

    def _connect(self) -> None:
        from openai import OpenAI

        if self._client is None:
            self._client = OpenAI(
                api_key=self._key,
                base_url=self.params.base_url or None,
                timeout=self.params.timeout,
                max_retries=0,
            )

    def _answer(self, request: Request) -> Reply:
        """One request with its retries; "unanswered" when all of them failed or the run is stopping."""
        problem = "the run stopped"
        for attempt in range(self.params.max_retries + 1):
            if self._stop.is_set():
                break
            try:
                reply = self._send(request)
            except Passing as failure:
                problem = str(failure)
                if attempt < self.params.max_retries:
                    with self._mutex:
                        self.usage.retries += 1
                    self._stop.wait(max(failure.wait, self._pause(request, attempt)))
                continue
            except BaseException as failure:
                self._failure = failure
                self._stop.set()  # nobody else starts anew
                raise
            self._ledger.record(request, reply)
            with self._mutex:
                self.usage.sent += 1
            return reply
        return Reply(request.id, "unanswered", problem)

    def _pause(self, request: Request, attempt: int) -> float:
        """Doubling, with a jitter between a half and the whole that differs for every request."""
        whole = min(self.params.backoff * 2**attempt, MAX_PAUSE)
        return whole * (0.5 + 0.5 * uniform(request.seed, "endpoint.backoff", request.id, attempt))

    def _tolerate(self, reply: Reply) -> None:
        self.usage.unanswered += 1
        self.usage.problems.append(reply.text)
        if self.usage.unanswered > self.params.max_unanswered:
            raise VistuneError(
                f"{self.usage.unanswered} requests to {self.name} stayed without an answer after "
                f"{self.params.max_retries} retries each; the last failure was: {reply.text}. The "
                f"{len(self._ledger)} answers so far are kept in {self._ledger.path}: run again when the server is "
                "well, and only the rest is asked for."
            )

    def _send(self, request: Request) -> Reply:
        """One attempt. Raises Passing, or VistuneError for what will not pass."""
        import openai

        try:
            raw = self._client.chat.completions.with_raw_response.create(
                model=self.model,
                messages=list(request.messages),
                extra_body=dict(request.sampling),
            )
            body = raw.http_response.content
        except openai.APITimeoutError:
            raise Passing(f"no answer within {self.params.timeout:g} s") from None
        except openai.APIConnectionError as error:
            raise Passing(self._clean(f"no connection ({error.__cause__ or error})")) from None
        except openai.APIStatusError as error:
            said = self._clean(error.message)
            status = error.status_code
            if error.code == "insufficient_quota":
                raise self._fatal(status, said, "The account has no credit left.") from None
            if status in PASSING or status >= 500:
                raise Passing(f"status {status}: {said}", retry_after(dict(error.response.headers))) from None
            raise self._fatal(status, said, HINTS.get(status, "").format(section=self._section)) from None
        except openai.APIError as error:
            raise Passing(self._clean(f"unusable response ({error})")) from None
        return self._read(request, body)

    def _read(self, request: Request, body: bytes) -> Reply:
        """The reply in a response body. Raises Passing when the body is no chat completion."""
        try:
            tree = json.loads(body)
            choice = tree["choices"][0]
            message = choice["message"]
            text, refusal = message.get("content"), message.get("refusal")
            usage = tree.get("usage") or {}
            sent, received = usage.get("prompt_tokens"), usage.get("completion_tokens")
            version = tree.get("model")
        except (ValueError, LookupError, TypeError, AttributeError):
            raise Passing(f"the response is no chat completion: {self._clean(repr(body[:80]))}") from None
        tokens = (sent if isinstance(sent, int) else None, received if isinstance(received, int) else None)
        status: Status = "ok"
        if choice.get("finish_reason") in ("length", "content_filter"):
            status = choice["finish_reason"]
        elif refusal:
            status = "refusal"
        said = self._clean(text if isinstance(text, str) else str(refusal or ""))
        version = self._clean(version) if isinstance(version, str) else ""
        return Reply(request.id, status, said.encode("utf-8", "replace").decode(), *tokens, version)

    def _fatal(self, status: int, said: str, hint: str) -> VistuneError:
        return VistuneError(
            f"{self.name} refused a request with status {status}: {said.rstrip('.')}. {hint} The {len(self._ledger)} "
            f"answers so far are kept in {self._ledger.path}; after the repair, run again, and only the rest is asked."
        )

    def _clean(self, text: str) -> str:
        """Server text without the key: some servers repeat it. What stands for a key at a local server ("none", "x")
        is no secret, and may well be part of a reply."""
        return text.replace(self._key, "[key]") if len(self._key) >= SECRET_LENGTH else text


def retry_after(headers: dict[str, str]) -> float:
    """Seconds the server asks to wait, from `Retry-After` (seconds or a date) or `retry-after-ms`; else 0.

    >>> retry_after({"retry-after": "3"}), retry_after({"Retry-After-Ms": "250"}), retry_after({"retry-after": "soon"})
    (3.0, 0.25, 0.0)
    """
    low = {name.lower(): value.strip() for name, value in headers.items()}
    number, date, unit = low.get("retry-after-ms", ""), low.get("retry-after", ""), 0.001
    if not number:
        number, unit = date, 1.0
    if re.fullmatch(r"\d+(\.\d+)?", number):
        seconds = float(number) * unit
    else:
        parsed = email.utils.parsedate_tz(date)
        seconds = email.utils.mktime_tz(parsed) - time.time() if parsed else 0.0
    return min(max(seconds, 0.0), MAX_WAIT)
