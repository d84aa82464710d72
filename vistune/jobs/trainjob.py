"""A TrainJob of Kubeflow Trainer, 2.2 or later: https://www.kubeflow.org/docs/components/trainer/.

`spec.runtimePatches` is what the last versions call it: 2.0 had podSpecOverrides, 2.1 podTemplateOverrides.
"""

from __future__ import annotations

from typing import Any

from vistune.jobs.backend import Work
from vistune.jobs.follow import Followed
from vistune.jobs.pods import command, environment, image, labels, limit, pruned
from vistune.jobs.submit import Kind

GROUP = "trainer.kubeflow.org"


class TrainJob(Followed):
    kind = Kind(
        name="TrainJob",
        group_version=f"{GROUP}/v1alpha1",
        plural="trainjobs",
        container="node",
        succeeded="Complete",
        suspend=("suspend",),
        labels="jobset.sigs.k8s.io/jobset-name={name}",
        slot=("jobset.sigs.k8s.io/replicatedjob-name", "batch.kubernetes.io/job-completion-index"),
        first={"jobset.sigs.k8s.io/replicatedjob-name": "node", "batch.kubernetes.io/job-completion-index": "0"},
        needs="The cluster needs Kubeflow Trainer 2.2 or later; on one with the older training operator set "
        "tune.job.backend to pytorchjob.",
    )

    def manifest(self, name: str, work: Work) -> dict[str, Any]:
        """The runtime holds what all jobs have in common (infra/k8s/cluster/runtime.yaml); the patch what this step was
        given. Environment of the container must be in `trainer.env`: a patch may not set it."""
        place = self.given
        pod = {
            "volumes": place.volumes,
            "containers": [pruned({"name": "node", "volumeMounts": place.volume_mounts})],
            "nodeSelector": place.node_selector,
            "tolerations": place.tolerations,
            "affinity": place.affinity,
        }
        node = {"name": "node", "template": {"spec": {"template": {"spec": pruned(pod)}}}}
        return {
            "apiVersion": self.kind.group_version,
            "kind": self.kind.name,
            "metadata": {"name": name, "labels": labels(self.params)},
            "spec": pruned(
                {
                    "runtimeRef": {"apiGroup": GROUP, "kind": "ClusterTrainingRuntime", "name": self.params.runtime},
                    "activeDeadlineSeconds": limit(self.params),
                    "trainer": pruned(
                        {
                            "image": image(self.kind.name),
                            "command": command(work),
                            "env": environment(place),
                            "numNodes": work.nodes,
                            "numProcPerNode": work.processes,
                            "resourcesPerNode": place.resources,
                        }
                    ),
                    "runtimePatches": [
                        {
                            "manager": "vistune/tune",
                            "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [node]}}},
                        }
                    ],
                }
            ),
        }
