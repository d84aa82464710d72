"""What every backend is given, and what it promises."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from vistune.errors import VistuneError

TASK_CONFIG = "VISTUNE_TASK_CONFIG"
"""Environment variable: what a Kubeflow step was given and its job gets instead, as JSON; see `Place`."""

NOT_PASSED = ("MLFLOW_", "KFP_", "PET_", "OPENAI_", "VISTUNE_TASK_CONFIG", "VISTUNE_PARENT_RUN")
"""Environment of a step that its job does not get: the step alone writes to MLflow, and PET_ is the operator's."""


@dataclass(frozen=True)
class Work:
    """A job file and the processes that read it."""

    module: str  # run as `python -m module file` by every process
    file: Path
    result: Path  # the first process writes it last, so it is there exactly when the training ended well
    nodes: int
    processes: int  # of each node


class TrainBackend(Protocol):
    """`run` starts the processes, or adopts those that an earlier call started for the same job file, and returns when
    `work.result` is written. It raises VistuneError when they failed, with what is known of the reason, and
    Interrupted on SIGTERM and SIGINT. In no case does it leave processes or a running job behind."""

    def processes(self, wanted: int) -> int:
        """How many processes each node gets. wanted: `tune.processes`, of all nodes together; 0: one per GPU."""

    def place(self, release: Path) -> Path:
        """`release`, where all processes can read it."""

    def run(self, work: Work) -> None: ...


@dataclass(frozen=True)
class Place:
    """The part of a pod that the user sets on the Kubeflow step, in Kubernetes' own form. The names are those of
    `kfp.dsl.TaskConfig`."""

    resources: dict[str, Any] = field(default_factory=dict)
    env: list[dict[str, Any]] = field(default_factory=list)
    volumes: list[dict[str, Any]] = field(default_factory=list)
    volume_mounts: list[dict[str, Any]] = field(default_factory=list)
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: list[dict[str, Any]] = field(default_factory=list)
    affinity: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_environment(cls) -> Place:
        """Raises VistuneError when the variable holds anything else."""
        text = os.environ.get(TASK_CONFIG, "{}")
        try:
            given = {key: value for key, value in json.loads(text).items() if value}
            made = cls(**given)
            for one in dataclasses.fields(cls):
                if not isinstance(getattr(made, one.name), dict if "dict" in str(one.type)[:4] else list):
                    raise TypeError(f"{one.name} is {getattr(made, one.name)!r}")
        except (ValueError, TypeError, AttributeError) as error:
            known = ", ".join(f.name for f in dataclasses.fields(cls))
            raise VistuneError(f"{TASK_CONFIG} is not a JSON object with some of {known}: {error}.") from None
        return made

    def gpus(self) -> int:
        """GPUs of a node.

        >>> Place(resources={"limits": {"nvidia.com/gpu": "8", "rdma/ib": "1", "memory": "1Ti"}}).gpus()
        8
        >>> Place(resources={"limits": {"nvidia.com/mig-3g.40gb": "2"}}).gpus()
        2
        """
        limits = self.resources.get("limits") or self.resources.get("requests") or {}
        return sum(int(n) for name, n in limits.items() if "/gpu" in name.lower() or "/mig-" in name.lower())

    def environment(self) -> list[dict[str, Any]]:
        """The step's environment as far as its job gets it."""
        return [one for one in self.env if not one["name"].startswith(NOT_PASSED)]

    def mounted(self, path: Path) -> bool:
        """Whether a volume that can be shared between pods holds `path`."""
        shared = {v["name"] for v in self.volumes if "emptyDir" not in v}
        mounts = [Path(m["mountPath"]) for m in self.volume_mounts if m["name"] in shared and not m.get("readOnly")]
        return any(path.is_relative_to(mount) for mount in mounts)
