"""What answers over the network: chat models, MLflow; and the secrets that lead to them."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from typing import Any

from vistune.errors import VistuneError
from vistune.preflight import Plan, Skip

SECONDS = 10.0
"""For which an answer is awaited."""

HELD = {"teacher": "VISTUNE_TEACHER_API_KEY", "judge": "VISTUNE_JUDGE_API_KEY"}
"""Environment in which the preflight step has the keys of secrets that other steps get as OPENAI_API_KEY."""

DEFAULT = "https://api.openai.com/v1"


def secrets(plan: Plan) -> str:
    """That those exist which this run uses. Kubernetes gives a step an optional secret as its environment, or nothing:
    no right to read secrets is needed to see which of both it was."""
    if not plan.needs.on_cluster:
        raise Skip("a run on this machine reads none from a cluster")
    missing = []
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        missing.append(("vistune-mlflow", "tracking_uri", "cluster_secret_mlflow"))
    if _teacher(plan) and not os.environ.get(HELD["teacher"]):
        missing.append(("vistune-teacher", "api_key", "cluster_secret_teacher"))
    if _judge(plan) and not os.environ.get(HELD["judge"]):
        missing.append(("vistune-judge", "api_key", "cluster_secret_judge"))
    if missing:
        raise VistuneError(
            "; ".join(
                f"there is no secret {secret} with {key} (or of the name in {parameter}). Create it: kubectl create "
                f"secret generic {secret} --from-file={key}=FILE"
                for secret, key, parameter in missing
            )
        )
    return "all that this run uses are there"


def teacher(plan: Plan) -> str:
    """The endpoint of self_instruct: that it answers, takes the key and has the model. No token is spent."""
    if not _teacher(plan):
        raise Skip("the grammar needs none")
    return answers(plan.section("self_instruct"), "self_instruct", HELD["teacher"])


def judge(plan: Plan) -> str:
    """The endpoint of the model that reads open answers."""
    if not _judge(plan):
        raise Skip("no judge is named")
    return answers(plan.section("evaluate").judge, "evaluate.judge", HELD["judge"])


def servers(plan: Plan) -> str:
    """The models that are evaluated beside ours."""
    named = getattr(plan.section("evaluate"), "servers", {})
    if not named:
        raise Skip("none is named")
    return "; ".join(answers(server, f"evaluate.servers.{name}", "") for name, server in named.items())


def _teacher(plan: Plan) -> bool:
    section = plan.section("self_instruct")
    return (
        plan.runs("self_instruct")
        and getattr(section, "teacher", "grammar") != "grammar"
        and getattr(section, "images", 0) > 0
    )


def _judge(plan: Plan) -> bool:
    found = getattr(plan.section("evaluate"), "judge", None)
    return bool(plan.runs("evaluate") and found and found.model)


def answers(params: Any, section: str, held: str) -> str:
    """Asks an OpenAI-compatible server for its models. Raises VistuneError when it does not answer, refuses the key,
    or has no such model."""
    key = os.environ.get(held) or os.environ.get(params.api_key_env, "")
    if not params.model:
        raise VistuneError(f"{section}.model is empty: set it to the name of the model to ask.")
    if not key.strip():
        raise VistuneError(
            f"{section} needs a key: {params.api_key_env} is not set or empty. Set it (a local server takes any value)."
        )
    base = (params.base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT).rstrip("/")
    if not base.startswith(("http://", "https://")):
        raise VistuneError(f"{section}.base_url is {base!r}; expected an address that begins with http:// or https://.")
    request = urllib.request.Request(f"{base}/models", headers={"Authorization": f"Bearer {key.strip()}"})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            listed = json.loads(answer.read(4_000_000))
        known = [model["id"] for model in listed["data"]]
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise VistuneError(
                f"{base} refuses the key of {section} ({error.code}). Check {params.api_key_env}."
            ) from None
        if error.code in (404, 405):
            return f"{base} answers, and does not list its models"
        raise VistuneError(f"{base} answers with status {error.code}. See {section}.base_url, or try later.") from None
    except (urllib.error.URLError, OSError) as error:
        why = getattr(error, "reason", error)
        raise VistuneError(
            f"{base} does not answer ({why}). Start the server, or correct {section}.base_url."
        ) from None
    except (ValueError, KeyError, TypeError):
        return f"{base} answers, and does not list its models"
    if params.model not in known:
        raise VistuneError(
            f"{base} has no model {params.model!r}; it lists {', '.join(known[:5]) or 'none'}. Correct {section}.model."
        )
    return f"{params.model} at {base}"


def mlflow(plan: Plan) -> str:
    """The tracking server: that it answers and lets this user in."""
    from vistune import tracking

    if not tracking.enabled():
        raise Skip("VISTUNE_TRACKING is off")
    where = tracking.uri()
    if not where.startswith(("http://", "https://")):
        if plan.needs.on_cluster:
            raise VistuneError(
                "the steps would record in a file of their own containers, which go with them. Give the secret "
                "vistune-mlflow a tracking_uri."
            )
        raise Skip("a file on this machine")
    from vistune.tracking.runs import connect, reachable

    with reachable():
        found = connect().search_experiments(max_results=1)
    return f"{where} answers" if found else f"{where} answers, and has no experiment yet"
