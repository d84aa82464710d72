"""What the cluster must have and allow, seen with the rights of the pipeline's own service account."""

from __future__ import annotations

import importlib
import json
import os
import re
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.jobs import BACKENDS
from vistune.jobs.backend import TASK_CONFIG, Work
from vistune.jobs.cluster import Cluster, Refused
from vistune.preflight import Plan, Skip

SHARED = Path("/mnt/vistune")
"""Where pipelines/placing.py mounts the claim that step and job share."""

PATIENCE = 20.0
"""Seconds for which the Kubernetes API may not answer."""

VERBS = ("create", "get", "list", "watch", "patch", "delete")
PODS = (("pods", "", ("get", "list", "watch")), ("pods", "log", ("get",)))

ROLE = "infra/k8s/base/pipeline-role.yaml"


def _kind(plan: Plan) -> Any:
    """Of the job that will be submitted. Raises Skip where there is none."""
    if not plan.in_job:
        raise Skip("training runs in the step's own pod" if plan.needs.on_cluster else "training runs on this machine")
    module, _, name = BACKENDS[plan.needs.train_on].rpartition(".")
    return getattr(importlib.import_module(module), name)


def image(plan: Plan) -> str:
    """That the steps' image is named by what never changes."""
    if not plan.needs.on_cluster:
        raise Skip("steps run in this environment")
    if "@sha256:" not in plan.needs.image:
        raise Skip(
            f"{plan.needs.image} is a tag: after a push under it, Kubeflow's cache would still give the old image's "
            "results. `make pipeline-run` compiles with the digest; `make compile` wants it in VISTUNE_IMAGE"
        )
    return plan.needs.image


def kind_of_job(plan: Plan) -> str:
    """That the cluster serves the version of the CRD that the job is written in."""
    kind = _kind(plan).kind
    group, version = kind.group_version.split("/")
    cluster = Cluster()
    try:
        served = cluster.call("GET", f"/apis/{group}", patience=PATIENCE)
        versions = [one["version"] for one in served.get("versions") or []]
        if version not in versions:
            raise VistuneError(f"the cluster serves {group} in {', '.join(versions) or 'no version'}. {kind.needs}")
        listed = cluster.call("GET", f"/apis/{kind.group_version}", patience=PATIENCE)
    except Refused as refused:
        if refused.status == 404:
            raise VistuneError(f"the cluster has no {kind.name} ({kind.group_version}). {kind.needs}") from None
        raise
    if kind.plural not in [one["name"] for one in listed.get("resources") or []]:
        raise VistuneError(f"{kind.group_version} of the cluster has no {kind.plural}. {kind.needs}")
    return f"{kind.name} {kind.group_version}"


def rights(plan: Plan) -> str:
    """That this service account may do all that the job's step does."""
    kind = _kind(plan).kind
    cluster = Cluster()
    wanted = [(kind.group_version.split("/")[0], kind.plural, "", VERBS), *(("", *one) for one in PODS)]
    missing, asked = [], 0
    for group, resource, part, verbs in wanted:
        for verb in verbs:
            asked += 1
            about = {"namespace": cluster.namespace, "verb": verb, "group": group, "resource": resource}
            review = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": {**about, **({"subresource": part} if part else {})}},
            }
            path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
            if not cluster.call("POST", path, body=review, patience=PATIENCE).get("status", {}).get("allowed"):
                missing.append(f"{verb} {resource}{'/' + part if part else ''}")
    if missing:
        raise VistuneError(
            f"this step's service account may not {', '.join(missing)} in {cluster.namespace}. Apply {ROLE} there."
        )
    return f"all {asked} that the job's step uses, in {cluster.namespace}"


def job_accepted(plan: Plan) -> str:
    """That the API takes the job as it will be submitted, by a dry run: schema, webhooks, runtime and quota objects."""
    made = _kind(plan)
    job = plan.section("tune").job
    before = os.environ.get(TASK_CONFIG)
    os.environ[TASK_CONFIG] = json.dumps(_given(plan))
    try:
        backend = made(job, SHARED)
        each = backend.processes(plan.section("tune").processes)
        work = Work("vistune.tune.launch", SHARED / "preflight.json", SHARED / "preflight.result", job.nodes, each)
        body = backend.manifest("vistune-preflight", work)
    finally:
        if before is None:
            del os.environ[TASK_CONFIG]
        else:
            os.environ[TASK_CONFIG] = before
    cluster, kind = Cluster(), made.kind
    query = {"dryRun": "All", "fieldValidation": "Strict"}
    try:
        cluster.call("POST", cluster.path(kind.group_version, kind.plural), query, body, PATIENCE)
    except Refused as refused:
        if refused.status == 409:
            return "a job of this name is there already"
        from vistune.jobs.failure import hint

        said = hint(str(refused)) or (kind.needs if refused.status in (400, 404, 422) else f"Apply {ROLE}.")
        raise VistuneError(f"the cluster does not take the {kind.name}: {str(refused).rstrip('.')}. {said}") from None
    return f"{kind.name} on {job.nodes} nodes with {each} processes each"


def _given(plan: Plan) -> dict[str, Any]:
    """What Kubeflow will hand to the step for its job."""
    needs = plan.needs
    limits = {"memory": needs.memory, **({needs.gpu_type: str(needs.gpus)} if needs.gpus else {})}
    return {
        "resources": {"limits": limits, "requests": {"cpu": needs.cpus, "memory": needs.memory}},
        "volumes": [{"name": "shared", "persistentVolumeClaim": {"claimName": needs.claim}}],
        "volume_mounts": [{"name": "shared", "mountPath": str(SHARED)}],
    }


def quota(plan: Plan) -> str:
    """That the namespace's quota leaves as many GPUs as the run asks for at a time."""
    needs = plan.needs
    if not needs.on_cluster or not needs.gpus:
        raise Skip("no GPU is asked for")
    wanted = needs.gpus * (plan.section("tune").job.nodes if plan.in_job else 1)
    resource = f"requests.{needs.gpu_type}"
    free = []
    for one in _listed("resourcequotas", "which quotas there are"):
        hard = (one.get("spec") or {}).get("hard") or {}
        if resource in hard:
            used = ((one.get("status") or {}).get("used") or {}).get(resource, "0")
            free.append((number(hard[resource]) - number(used), one["metadata"]["name"], hard[resource]))
    if not free:
        return f"no quota limits {needs.gpu_type}; the run asks for {wanted}"
    left, name, hard_limit = min(free)
    if wanted > left:
        said = "Wait, ask for fewer (VISTUNE_GPUS, tune.job.nodes), queue with tune.job.queue, or raise the quota."
        raise VistuneError(
            f"the run asks for {wanted} x {needs.gpu_type}, and quota {name} has {left:g} of {hard_limit} left. {said}"
        )
    return f"{wanted} of {left:g} x {needs.gpu_type} that quota {name} has left"


def volume(plan: Plan) -> str:
    """The claim that step and job share: that it is there, and that several nodes may mount it."""
    if not plan.in_job:
        raise Skip("step and training share one pod")
    name = plan.needs.claim
    found = {one["metadata"]["name"]: one for one in _listed("persistentvolumeclaims", "which claims there are")}
    if name not in found:
        others = f" There are {', '.join(sorted(found))}." if found else ""
        raise VistuneError(
            f"there is no claim {name}.{others} Apply infra/k8s/base/shared-claim.yaml, or compile with VISTUNE_CLAIM."
        )
    spec, phase = found[name].get("spec") or {}, (found[name].get("status") or {}).get("phase", "")
    if plan.section("tune").job.nodes > 1 and "ReadWriteMany" not in (spec.get("accessModes") or []):
        raise VistuneError(
            f"claim {name} is {', '.join(spec.get('accessModes') or ['of no access mode'])}, and several nodes must "
            "mount it. Make it ReadWriteMany, with a storage class that can."
        )
    if phase == "Lost":
        raise VistuneError(f"claim {name} has lost its volume. Restore the volume, or make a new claim.")
    size = ((spec.get("resources") or {}).get("requests") or {}).get("storage", "?")
    return f"{name}, {size}, {phase.lower() or 'not bound yet'}"


def _listed(plural: str, what: str) -> list[dict[str, Any]]:
    cluster = Cluster()
    try:
        found: list[dict[str, Any]] = cluster.call("GET", cluster.path("v1", plural), patience=PATIENCE)["items"]
    except Refused as refused:
        if refused.status == 403:
            raise Skip(f"this service account may not see {what}; {ROLE} lets it") from None
        raise
    return found


def number(quantity: str) -> float:
    """A count as Kubernetes writes it.

    >>> number("8"), number("1500m"), number("2k")
    (8.0, 1.5, 2000.0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mkMG]?)", str(quantity))
    if not found:
        raise VistuneError(f"quantity {quantity!r} of a quota is no count.")
    return float(found[1]) * {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9}[found[2]]
