"""Why a job failed, from the state of its pods: the exit code, the last lines, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

LINES = 50
"""Last lines of the failed pod that the error shows."""

Pod = Mapping[str, Any]

HINTS = (  # first match wins; searched in the reasons and messages of pods and conditions, and in the last lines
    (
        r"OOMKilled",
        "A process took more memory than the pod may have. Raise the step's memory limit, or lower tune.workers, "
        "tune.stages[].max_tokens or tune.stages[].together.",
    ),
    (
        r"ImagePullBackOff|ErrImagePull|InvalidImageName|ErrImageNeverPull",
        "The image cannot be pulled. Check VISTUNE_IMAGE, and that the namespace has a pull secret for its registry.",
    ),
    (
        r"CreateContainerConfigError",
        "A secret, config map or key that the pod names does not exist. Create it in the job's namespace.",
    ),
    (
        r"Unschedulable|Insufficient \S*gpu|FailedScheduling",
        "No node has what a pod asks for. Ask for fewer GPUs, add nodes, or set the step's node selector and "
        "tolerations to those of the GPU nodes.",
    ),
    (
        r"CUDA out of memory|OutOfMemoryError",
        "The GPU's memory is full. Raise tune.zero, or lower tune.stages[].max_tokens or tune.stages[].together; "
        "`vistune tune --plan` forecasts the memory.",
    ),
    (
        r"Watchdog caught collective operation timeout|NCCL watchdog|ProcessGroupNCCL.*(timeout|timed out)",
        "One process waited for another until NCCL gave up. The first error of any process above it is the cause; "
        "without one, suspect the network between the nodes (NCCL_DEBUG=INFO on the step shows it).",
    ),
    (
        r"NCCL WARN|ncclSystemError|ncclRemoteError|unhandled system error",
        "NCCL found no way between the nodes. Set NCCL_SOCKET_IFNAME on the step, and allow traffic between the job's "
        "pods.",
    ),
    (
        r"DeadlineExceeded",
        "The job ran longer than it may. Raise tune.job.run_deadline; the training goes on from its newest checkpoint.",
    ),
    (
        r"TrainingRuntimeNotSupported|(?i:runtime.* not found)",
        "The cluster lacks the ClusterTrainingRuntime. Apply infra/k8s, or name another in tune.job.runtime.",
    ),
    (r"No space left on device", "A volume is full. Enlarge the claim behind VISTUNE_HOME, or clear its stages/."),
    (r"exit code 143", "The pod was told to end; the training goes on from its newest checkpoint when run again."),
)

DISRUPTIONS = frozenset(
    (
        "Evicted",
        "NodeAffinity",
        "NodeLost",
        "NodeShutdown",
        "Preempted",
        "Preempting",
        "Shutdown",
        "Terminated",
        "UnexpectedAdmissionError",
    )
)
"""`status.reason` of pods that ended without a fault of their own."""

HOPELESS = frozenset(("InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError"))
"""Reasons for which a container waits and that time does not change."""


@dataclass(frozen=True)
class Ended:
    """How a pod's container ended."""

    pod: str
    code: int
    reason: str
    time: str

    def __str__(self) -> str:
        return f"pod {self.pod}: exit code {self.code}" + (f" ({self.reason})" if self.reason else "")


def hint(text: str) -> str:
    """
    >>> hint("nothing known")
    ''
    >>> hint("0/4 nodes are available: 4 Insufficient nvidia.com/gpu.")[:33]
    'No node has what a pod asks for. '
    """
    return next((advice for pattern, advice in HINTS if re.search(pattern, text)), "")


def ended(pods: Iterable[Pod]) -> list[Ended]:
    """Containers that ended with an error, the first one first."""
    found = []
    for pod in pods:
        for one in pod.get("status", {}).get("containerStatuses") or []:
            for state in (one.get("state") or {}, one.get("lastState") or {}):
                end = state.get("terminated") or {}
                if end.get("exitCode"):
                    name = pod["metadata"]["name"]
                    reason = "" if end.get("reason") == "Error" else end.get("reason", "")
                    found.append(Ended(name, end["exitCode"], reason, end.get("finishedAt") or ""))
    return sorted(found, key=lambda e: (e.time or "~", e.pod))


def disrupted(pods: Iterable[Pod]) -> str:
    """The pod that was preempted, evicted or drained, and how; "" when none was."""
    pods = list(pods)
    for pod in pods:
        status, name = pod.get("status", {}), pod["metadata"]["name"]
        for condition in status.get("conditions") or []:
            if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
                return f"{name} ({condition.get('reason', 'disrupted')})"
        if status.get("phase") == "Failed" and status.get("reason") in DISRUPTIONS:
            return f"{name} ({status['reason']})"
    ends = ended(pods)
    if ends and all(one.code == 143 for one in ends):  # pods that are cleared away after a failure end with it as well
        return f"{ends[0].pod} (told to end)"
    return ""


def waiting(pods: Iterable[Pod]) -> list[str]:
    """What keeps pods from running, each reason once: of scheduling, then of their containers."""
    found: dict[str, None] = {}
    for pod in pods:
        status = pod.get("status", {})
        for condition in status.get("conditions") or []:
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                found[f"{condition.get('reason', '')}: {condition.get('message', '')}"] = None
        for kind in ("initContainerStatuses", "containerStatuses"):
            for one in status.get(kind) or []:
                wait = (one.get("state") or {}).get("waiting") or {}
                if wait.get("reason") not in (None, "", "ContainerCreating", "PodInitializing"):
                    found[f"{wait['reason']}: {wait.get('message', '')}".rstrip(": ")] = None
    return list(found)


def report(title: str, conditions: Iterable[Mapping[str, Any]], pods: Iterable[Pod], lines: list[str]) -> str:
    """The whole error. lines: the last ones of the pod that failed first."""
    pods = list(pods)
    true = [c for c in conditions if c.get("status") == "True"]
    facts = [": ".join(x for x in (c.get("type", ""), c.get("reason", ""), c.get("message", "")) if x) for c in true]
    facts += [str(one) for one in ended(pods)] + waiting(pods)
    advice = hint("\n".join([*facts, *lines]))
    text = "\n".join([title, *(f"  {fact}" for fact in facts)])
    if lines:
        text += "\n  last lines:\n" + "\n".join(f"    {line}" for line in lines)
    return text + (f"\n{advice}" if advice else "")
