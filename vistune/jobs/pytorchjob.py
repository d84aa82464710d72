"""A PyTorchJob of the older training operator, kubeflow.org/v1."""

from __future__ import annotations

from typing import Any

from vistune.jobs.backend import Work
from vistune.jobs.follow import Followed
from vistune.jobs.pods import GRACE, command, environment, image, labels, limit, pruned
from vistune.jobs.submit import Kind

KEPT = 86400
"""Seconds for which a finished job stays, where it has no owner that takes it along."""

SHARED_MEMORY = {"name": "vistune-shm", "emptyDir": {"medium": "Memory"}}


class PyTorchJob(Followed):
    kind = Kind(
        name="PyTorchJob",
        group_version="kubeflow.org/v1",
        plural="pytorchjobs",
        container="pytorch",
        succeeded="Succeeded",
        suspend=("runPolicy", "suspend"),
        labels="training.kubeflow.org/job-name={name}",
        slot=("training.kubeflow.org/replica-type", "training.kubeflow.org/replica-index"),
        first={"training.kubeflow.org/replica-type": "master", "training.kubeflow.org/replica-index": "0"},
        needs="The cluster needs the training operator (PyTorchJob, kubeflow.org/v1); on one with Kubeflow Trainer set "
        "tune.job.backend to trainjob.",
    )

    def manifest(self, name: str, work: Work) -> dict[str, Any]:
        """Pods are never restarted one by one: processes that train together begin together, so a lost pod fails the
        job, and the whole of it is made again."""
        replica = {"replicas": 1, "restartPolicy": "Never", "template": self._pod(work)}
        replicas = {"Master": replica}
        if work.nodes > 1:
            replicas["Worker"] = {**replica, "replicas": work.nodes - 1}
        policy = {
            "cleanPodPolicy": "Running",
            "backoffLimit": 0,
            "activeDeadlineSeconds": limit(self.params),
            "ttlSecondsAfterFinished": KEPT,
        }
        return {
            "apiVersion": self.kind.group_version,
            "kind": self.kind.name,
            "metadata": {"name": name, "labels": labels(self.params)},
            "spec": {
                "nprocPerNode": str(work.processes),
                "runPolicy": {k: v for k, v in policy.items() if v is not None},
                "pytorchReplicaSpecs": replicas,
            },
        }

    def _pod(self, work: Work) -> dict[str, Any]:
        place = self.given
        container = {
            "name": "pytorch",
            "image": image(self.kind.name),
            "command": command(work),
            "env": environment(place),
            "resources": place.resources,
            "volumeMounts": [*place.volume_mounts, {"name": SHARED_MEMORY["name"], "mountPath": "/dev/shm"}],
            "securityContext": {
                # here and not on the pod, to which the operator adds an init container of an image whose user is root
                "runAsNonRoot": True,
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            },
        }
        return {
            "metadata": {"annotations": {"sidecar.istio.io/inject": "false"}, "labels": labels(self.params)},
            "spec": pruned(
                {
                    "automountServiceAccountToken": False,
                    "terminationGracePeriodSeconds": GRACE,
                    "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [pruned(container)],
                    "volumes": [*place.volumes, SHARED_MEMORY],
                    "nodeSelector": place.node_selector,
                    "tolerations": place.tolerations,
                    "affinity": place.affinity,
                }
            ),
        }
