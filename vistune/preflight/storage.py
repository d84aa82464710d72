"""The volume that a run has to itself: that the cluster can make one which pods on several nodes mount."""

from __future__ import annotations

from typing import Any

from vistune.errors import VistuneError
from vistune.jobs.cluster import Cluster, Refused
from vistune.preflight import Plan, Skip

CLASSES = "/apis/storage.k8s.io/v1/storageclasses"

DEFAULT = "storageclass.kubernetes.io/is-default-class"
"""Annotation of the class that a claim gets which names none."""

ONE_NODE = (  # provisioners whose file systems one node mounts at a time, as each of them documents
    "ebs.csi.aws.com",
    "kubernetes.io/aws-ebs",
    "pd.csi.storage.gke.io",
    "kubernetes.io/gce-pd",
    "disk.csi.azure.com",
    "kubernetes.io/azure-disk",
    "cinder.csi.openstack.org",
    "rbd.csi.ceph.com",
    "topolvm.io",
    "rancher.io/local-path",
)

PATIENCE = 20.0


def workspace(plan: Plan) -> str:
    """The storage class of the workspace, which steps on several nodes mount: that it is there, and can do that."""
    if not plan.needs.workspace:
        raise Skip("this pipeline has none (VISTUNE_WORKSPACE)")
    named, size = plan.needs.workspace_class, plan.needs.workspace
    known = {one["metadata"]["name"]: one for one in _classes()}
    if named and named not in known:
        raise VistuneError(
            f"there is no storage class {named}. There are {', '.join(sorted(known)) or 'none'}. Compile with one of "
            "them in VISTUNE_WORKSPACE_CLASS."
        )
    defaults = [n for n, one in known.items() if (one["metadata"].get("annotations") or {}).get(DEFAULT) == "true"]
    if not named and not defaults:
        raise VistuneError(
            f"the cluster has no default storage class. There are {', '.join(sorted(known)) or 'none'}. Compile with "
            "one that can make ReadWriteMany volumes in VISTUNE_WORKSPACE_CLASS."
        )
    chosen = named or sorted(defaults)[0]
    maker = str(known[chosen].get("provisioner", ""))
    if maker.endswith(ONE_NODE):
        raise VistuneError(
            f"storage class {chosen} ({maker}) makes volumes for one node, and the steps of a run mount the workspace "
            "on several: its claim would stay pending. Compile with a class that can ReadWriteMany (NFS, CephFS, EFS, "
            "Filestore, Azure Files) in VISTUNE_WORKSPACE_CLASS, or without VISTUNE_WORKSPACE."
        )
    return f"{size} of {'' if named else 'the default '}storage class {chosen} ({maker})"


def _classes() -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = Cluster().call("GET", CLASSES, patience=PATIENCE)["items"]
    except Refused as refused:
        if refused.status == 403:
            raise Skip(
                "this service account may not see the storage classes, which belong to the whole cluster; a "
                "ClusterRole with the verb list on storageclasses.storage.k8s.io lets it"
            ) from None
        raise
    return found
