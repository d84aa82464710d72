"""Where the steps of a pipeline run: on this machine, or on a cluster with resources, retries, secrets and volumes.

What the compiled pipeline is made for comes from the environment:

VISTUNE_IMAGE    image of every step. `make pipeline-run` asks its registry for the digest of a tag; with
                 VISTUNE_RELEASE=1 it must be named by digest (...@sha256:...)
VISTUNE_GPUS     GPUs of `tune` and `evaluate`, default 1; 0 runs them on CPUs
VISTUNE_GPU_TYPE resource name of a GPU, default nvidia.com/gpu
VISTUNE_CPUS     CPUs and memory of `tune`, or of each node of its job; default 4 and 16Gi
VISTUNE_MEMORY
VISTUNE_SHM      shared memory of `tune` and `evaluate`, default 8Gi, part of their memory; 0 leaves the 64 MiB of a pod
VISTUNE_TRAIN_ON pod (default): `tune` trains in its own pod; trainjob or pytorchjob: in a job on tune.job.nodes nodes,
                 each with the GPUs, CPUs and memory of the step
VISTUNE_CLAIM    ReadWriteMany claim that step and job share, default vistune-shared
VISTUNE_SHARDS   `adapt` and `self_instruct` run in so many pods each, default 1; the result is the same, byte for byte
VISTUNE_WORKSPACE       size of a volume that the run has to itself, e.g. 100Gi: steps that are tried again go on from
VISTUNE_WORKSPACE_CLASS what they had. Its storage class (ReadWriteMany) where the default one is not meant
VISTUNE_TTL_DAYS days until a finished run's pods and workflow are removed from the cluster, default 7
"""

import contextlib
import functools
import importlib.util
import inspect
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kfp import dsl, kubernetes
from run import STAGES

import vistune
from vistune import lineage

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Pod:
    """What the pod of a step gets."""

    cpus: str
    memory: str
    hours: int  # that it may take
    retried: bool = True  # no: it fails for a reason that stays
    cached: bool = False  # by Kubeflow; a gate from the cache would be no gate
    gpu: bool = False
    secrets: tuple[str, ...] = ("mlflow",)


PODS = {
    "preflight": Pod("100m", "1Gi", 1, retried=False, secrets=("mlflow", "teacher", "judge")),
    "resolve": Pod("500m", "2Gi", 1, retried=False),
    "vary": Pod("500m", "2Gi", 1, retried=False),
    "among": Pod("100m", "1Gi", 1, retried=False),
    "sources": Pod("1", "2Gi", 24, cached=True),
    "adapt": Pod("2", "4Gi", 24, cached=True),
    "adapt_merge": Pod("2", "4Gi", 24, cached=True),
    "self_instruct": Pod("2", "4Gi", 72, cached=True, secrets=("mlflow", "teacher")),
    "self_instruct_merge": Pod("2", "4Gi", 24, cached=True),
    "validate": Pod("2", "8Gi", 24, cached=True),
    "tune": Pod("4", "16Gi", 336, gpu=True),
    "fetch": Pod("1", "8Gi", 24),
    "evaluate": Pod("4", "16Gi", 72, gpu=True, secrets=("mlflow", "judge")),
    "best": Pod("1", "4Gi", 4),
    "promote": Pod("1", "4Gi", 4),
    "report": Pod("1", "4Gi", 4),
    "verdict": Pod("100m", "512Mi", 1, retried=False, secrets=()),
    "cleanup": Pod("100m", "1Gi", 1, secrets=("mlflow", "notify")),
}
VARIANTS = {  # function: folder in components/ whose file has it
    "adapt_part": "adapt",
    "adapt_merge": "adapt",
    "self_instruct_part": "self_instruct",
    "self_instruct_merge": "self_instruct",
    "tune_job": "tune",
    "vary": "resolve",
    "among": "resolve",
    "verdict_fail": "verdict",
    "verdict_inconclusive": "verdict",
}

SECRETS = {  # all of them optional: {key of the Kubernetes secret: environment variable}
    "mlflow": {
        "tracking_uri": "MLFLOW_TRACKING_URI",
        "username": "MLFLOW_TRACKING_USERNAME",
        "password": "MLFLOW_TRACKING_PASSWORD",
    },
    "teacher": {"api_key": "OPENAI_API_KEY"},
    "judge": {"api_key": "OPENAI_API_KEY"},
    "notify": {"url": "VISTUNE_NOTIFY_URL"},
}
CONFIG = {  # optional keys of the config map that every step reads
    "mlflow_experiment": "MLFLOW_EXPERIMENT_NAME",
    "hf_endpoint": "HF_ENDPOINT",
    "https_proxy": "HTTPS_PROXY",
    "no_proxy": "NO_PROXY",
    "kfp_ui": "VISTUNE_KFP_UI",
}
KEPT_APART = {"teacher": {"api_key": "VISTUNE_TEACHER_API_KEY"}, "judge": {"api_key": "VISTUNE_JUDGE_API_KEY"}}
"""As SECRETS, for `preflight`, which asks both endpoints."""

PARAMETERS = {  # what every pipeline asks for besides its own, on a cluster: (type, default, text)
    "cluster_secret_mlflow": (str, "vistune-mlflow", "Secret with tracking_uri, username and password of MLflow."),
    "cluster_secret_teacher": (str, "vistune-teacher", "Secret with the api_key of the teacher of self_instruct."),
    "cluster_secret_judge": (str, "vistune-judge", "Secret with the api_key of the judge of evaluate."),
    "cluster_secret_notify": (str, "vistune-notify", "Secret with the url that is told how the run ended."),
    "cluster_config_map": (str, "vistune-settings", f"Config map with some of {', '.join(CONFIG)}."),
    "cluster_gpu_node_selector": (dict, {}, "Labels of the nodes that GPU steps and jobs may run on, as JSON."),
    "cluster_gpu_tolerations": (list, [], "Taints of nodes that GPU steps and jobs tolerate, as a JSON list."),
}

LABELS = {"app.kubernetes.io/name": "vistune", "app.kubernetes.io/component": "step"}  # for infra/k8s' network policies
RUN_LABEL = "metadata.labels['pipeline/runid']"
JOBS = ("trainjob", "pytorchjob")
IMAGE = "vistune:dev"  # the components' default too
SHARED = "/mnt/vistune"  # where step and job have the shared claim
WORKSPACE = f"{dsl.WORKSPACE_PATH_PLACEHOLDER}/vistune"
DAY = 86400


@dataclass(frozen=True)
class Cluster:
    """What only a cluster needs to know; a local run has none of it."""

    image: str
    gpus: int = 1
    gpu_type: str = "nvidia.com/gpu"
    train_on: str = "pod"
    claim: str = "vistune-shared"
    cpus: str = PODS["tune"].cpus
    memory: str = PODS["tune"].memory
    shm: str = "8Gi"
    shards: int = 1
    workspace: str = ""
    workspace_class: str = ""
    ttl_days: int = 7
    version: str = ""  # of the code that compiles it: <version>+g<commit>

    @classmethod
    def from_environment(cls) -> "Cluster":
        """Raises SystemExit with a sentence for a value that cannot be meant."""
        image = os.environ.get("VISTUNE_IMAGE") or IMAGE
        if os.environ.get("VISTUNE_RELEASE") == "1" and not re.search(r"@sha256:[0-9a-f]{64}$", image):
            raise SystemExit(
                f"VISTUNE_IMAGE is {image!r}; a release names its image by digest (NAME@sha256:...), because "
                "Kubeflow's cache and the lineage take the name for the content. `make pipeline-run` with KFP_ENDPOINT "
                "looks a tag up in its registry."
            )
        train_on = os.environ.get("VISTUNE_TRAIN_ON", "pod")
        if train_on not in ("pod", *JOBS):
            raise SystemExit(f"VISTUNE_TRAIN_ON is {train_on!r}; expected pod, {' or '.join(JOBS)}.")
        workspace = os.environ.get("VISTUNE_WORKSPACE", "")
        if workspace and not re.fullmatch(r"[1-9]\d*(Mi|Gi|Ti|M|G|T)", workspace):
            raise SystemExit(f"VISTUNE_WORKSPACE is {workspace!r}; expected a size such as 100Gi.")
        return cls(
            image,
            _number("VISTUNE_GPUS", 1),
            os.environ.get("VISTUNE_GPU_TYPE", "nvidia.com/gpu"),
            train_on,
            os.environ.get("VISTUNE_CLAIM", "vistune-shared"),
            os.environ.get("VISTUNE_CPUS", PODS["tune"].cpus),
            os.environ.get("VISTUNE_MEMORY", PODS["tune"].memory),
            os.environ.get("VISTUNE_SHM", "8Gi"),
            _number("VISTUNE_SHARDS", 1, 1),
            workspace,
            os.environ.get("VISTUNE_WORKSPACE_CLASS", ""),
            _number("VISTUNE_TTL_DAYS", 7, 1),
            version(),
        )

    @property
    def in_job(self) -> bool:
        """Whether `tune` trains in a job of its own."""
        return self.train_on in JOBS

    def config(self) -> dsl.PipelineConfig:
        """Settings of the whole pipeline: when its pods go, and the volume that its steps share."""
        volume = None
        if self.workspace:
            patch: dict[str, Any] = {"accessModes": ["ReadWriteMany"]}
            patch |= {"storageClassName": self.workspace_class} if self.workspace_class else {}
            volume = dsl.WorkspaceConfig(self.workspace, dsl.KubernetesWorkspaceConfig(pvcSpecPatch=patch))
        return dsl.PipelineConfig(workspace=volume, ttl_seconds_after_finished=self.ttl_days * DAY)


def version() -> str:
    """The name of a pipeline's version, by which every step says in its lineage what compiled it."""
    sha, dirty = lineage.git()
    return f"{vistune.__version__}+" + (f"g{sha[:12]}" if sha else "nogit") + (".dirty" if dirty else "")


def _number(name: str, default: int, least: int = 0) -> int:
    text = os.environ.get(name, str(default))
    if not re.fullmatch(r"\d{1,6}", text) or int(text) < least:
        raise SystemExit(f"{name} is {text!r}; expected a whole number of at least {least}.")
    return int(text)


def component(name: str) -> dsl.base_component.BaseComponent:
    """The component of this name, from its file in components/."""
    folder = VARIANTS.get(name, name)
    spec = importlib.util.spec_from_file_location(f"components_{folder}", ROOT / "components" / folder / "component.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


class Steps:
    """`step = Steps(cluster); step("adapt", settings=..., sources=...)` makes a task and places it. cluster: None for
    this machine."""

    def __init__(self, cluster: Cluster | None) -> None:
        self.cluster = cluster
        self.given: dict[str, Any] = {}  # the cluster's parameters, while a pipeline is built
        self.stages: tuple[str, ...] = ()  # that the pipeline runs

    def __call__(self, name: str, **inputs: object) -> dsl.PipelineTask:
        made = component(name)
        if self.cluster is not None and self.cluster.workspace and "home" in (made.component_spec.inputs or {}):
            inputs["home"] = WORKSPACE
        task = made(**inputs)
        row = PODS[name if name in PODS else VARIANTS[name]]
        task.set_caching_options(row.cached)
        if self.cluster is not None:
            self._place(task, name, row, self.cluster)
        return task

    def pipeline(self, name: str) -> Callable[[Callable], dsl.base_component.BaseComponent]:
        """Decorates a pipeline's function; on a cluster it gets `PARAMETERS` after its own parameters."""

        def decorate(body: Callable) -> dsl.base_component.BaseComponent:
            self.stages = STAGES[body.__name__]
            if self.cluster is None:
                return dsl.pipeline(name=name)(body)
            own = list(inspect.signature(body).parameters.values())
            more = [inspect.Parameter(n, own[0].kind, default=d, annotation=t) for n, (t, d, _) in PARAMETERS.items()]

            @functools.wraps(body)
            def whole(*channels: Any) -> None:
                self.given = dict(zip(PARAMETERS, channels[len(own) :], strict=True))
                body(*channels[: len(own)])

            whole.__signature__ = inspect.Signature([*own, *more])  # type: ignore[attr-defined]
            texts = "\n".join(f"    {n}: {text}" for n, (_, _, text) in PARAMETERS.items())
            whole.__doc__ = f"{inspect.cleandoc(body.__doc__ or '')}\n{texts}\n"
            return dsl.pipeline(name=name, pipeline_config=self.cluster.config())(whole)

        return decorate

    @contextlib.contextmanager
    def run(self) -> Iterator[None]:
        """Around all steps of a pipeline: on a cluster, `cleanup` comes last, however the others ended."""
        if self.cluster is None:
            yield
            return
        with dsl.ExitHandler(self("cleanup", run=dsl.PIPELINE_JOB_ID_PLACEHOLDER)):
            yield

    def needs(self) -> str:
        """For `preflight`, as JSON: what the compiled pipeline asks of the cluster."""
        asked = asdict(self.cluster) if self.cluster is not None else {}
        return json.dumps({**asked, "stages": self.stages}, sort_keys=True)

    def _place(self, task: dsl.PipelineTask, name: str, row: Pod, cluster: Cluster) -> None:
        trains = name in ("tune", "tune_job")
        cpus, memory = (cluster.cpus, cluster.memory) if trains else (row.cpus, row.memory)
        task.set_display_name(name).set_cpu_request(cpus).set_memory_request(memory).set_memory_limit(memory)
        task.set_env_variable("VISTUNE_IMAGE", cluster.image)
        task.set_env_variable("VISTUNE_KFP_PIPELINE_VERSION", cluster.version)
        kubernetes.use_field_path_as_env(task, "VISTUNE_KFP_RUN", RUN_LABEL)
        kubernetes.set_timeout(task, row.hours * 3600)
        kubernetes.set_security_context(task, run_as_non_root=True)
        for key, value in LABELS.items():
            kubernetes.add_pod_label(task, key, value)
        if row.gpu:
            self._gpu(task, name, cluster)
        if name == "tune_job":
            kubernetes.mount_pvc(task, pvc_name=cluster.claim, mount_path=SHARED)
            task.set_env_variable("VISTUNE_HOME", SHARED)
        if row.retried:
            task.set_retry(num_retries=2, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="600s")
        for secret in row.secrets:
            held = self.given[f"cluster_secret_{secret}"]
            keys = {**SECRETS, **KEPT_APART}[secret] if name == "preflight" else SECRETS[secret]
            kubernetes.use_secret_as_env(task, secret_name=held, secret_key_to_env=keys, optional=True)
        kubernetes.use_config_map_as_env(task, self.given["cluster_config_map"], CONFIG, optional=True)

    def _gpu(self, task: dsl.PipelineTask, name: str, cluster: Cluster) -> None:
        """GPUs, the nodes that have them, and the shared memory of NCCL and the batch loaders; a job brings its own."""
        if cluster.gpus:
            task.set_accelerator_type(cluster.gpu_type).set_accelerator_limit(cluster.gpus)
            kubernetes.add_node_selector_json(task, self.given["cluster_gpu_node_selector"])
            kubernetes.add_toleration_json(task, self.given["cluster_gpu_tolerations"])
        if name != "tune_job" and cluster.shm != "0":
            kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit=cluster.shm)
