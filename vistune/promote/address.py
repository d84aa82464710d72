"""Images by address, for a server whose owner allows it.

A server that fetches whatever a request names can be sent anywhere, into its own network too. So nothing is fetched
unless the address begins with one of the origins in `VISTUNE_IMAGE_ORIGINS` (scheme, host and port as written there,
separated by spaces); a redirect to anywhere is refused, since it would lead past that list.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from vistune.errors import VistuneError

ORIGINS = "VISTUNE_IMAGE_ORIGINS"
SECONDS = 10.0
"""A server that has not answered, or has paused in its answer, for this long is given up."""


def fetch(address: str, limit: int) -> bytes:
    """The bytes at an allowed address. Raises VistuneError when it is not allowed, when there are more than `limit`
    bytes, or when they cannot be had."""
    shown = address if len(address) <= 80 else f"{address[:77]}..."
    allowed = os.environ.get(ORIGINS, "").split()
    if origin(address) not in {origin(text) for text in allowed} - {""}:
        known = f"not one of {ORIGINS}" if allowed else f"and addresses are not fetched ({ORIGINS} is not set)"
        raise VistuneError(f"{shown} is an address, {known}. Send the file's bytes in base64.")
    opener = urllib.request.build_opener(_NoRedirect)
    request = urllib.request.Request(address, headers={"Accept": "image/*", "User-Agent": "vistune"})
    try:
        with opener.open(request, timeout=SECONDS) as answer:
            data = answer.read(limit + 1)
    except urllib.error.HTTPError as error:
        why = "a redirect, which is not followed" if 300 <= error.code < 400 else error.reason
        raise VistuneError(f"{shown} answered {error.code} ({why}).") from None
    except (OSError, ValueError) as error:
        raise VistuneError(f"{shown} cannot be fetched ({getattr(error, 'reason', error)}).") from None
    if len(data) > limit:
        raise VistuneError(f"{shown} has more than {limit:,} bytes.")
    return data


def origin(address: str) -> str:
    """Scheme, host and port of an http address; empty for any other, and for one with a name or password in it.

    >>> origin("HTTPS://Images.example.org/a.png"), origin("http://127.0.0.1:80/x"), origin("http://me@host/x")
    ('https://images.example.org:443', 'http://127.0.0.1:80', '')
    """
    try:
        parts = urlsplit(address)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError):
        return ""
    return f"{parts.scheme}://{parts.hostname}:{port}" if parts.hostname and "@" not in parts.netloc else ""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None
