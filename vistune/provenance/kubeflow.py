"""Runs of Kubeflow Pipelines, asked of its API server (v2beta1) over HTTP."""

from __future__ import annotations

import json
import os
import ssl
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote

from vistune.errors import VistuneError
from vistune.tracking import redact_text

SECONDS = 30.0


def run_of(run: str) -> dict[str, Any] | None:
    """What the server at KFP_ENDPOINT says of a run; None without KFP_ENDPOINT. KFP_TOKEN and KFP_CA_CERT are used as
    by `make pipeline-run`. Raises VistuneError when it does not have the run, or does not answer."""
    endpoint = os.environ.get("KFP_ENDPOINT", "").rstrip("/")
    if not endpoint:
        return None
    token = os.environ.get("KFP_TOKEN", "")
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(f"{endpoint}/apis/v2beta1/runs/{quote(run)}", headers=headers)
    certificates = os.environ.get("KFP_CA_CERT")
    trust = ssl.create_default_context(cafile=certificates) if endpoint.startswith("https:") else None
    try:
        with urllib.request.urlopen(request, timeout=SECONDS, context=trust) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise VistuneError(
                f"Kubeflow Pipelines has no run {run}: it was deleted, or ran on another cluster. Check KFP_ENDPOINT."
            ) from None
        raise VistuneError(f"Kubeflow Pipelines at {redact_text(endpoint)} answered {error.code}.") from None
    except (OSError, ValueError) as error:
        raise VistuneError(f"Kubeflow Pipelines at {redact_text(endpoint)} does not answer ({error}).") from None
