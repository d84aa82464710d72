"""The whole pipeline: annotated images in, a promoted model and a report out.

`python pipelines/instruction_tuning.py` compiles it for a cluster into build/instruction_tuning.yaml. The same
function, without the cluster's settings, is what `make pipeline-run` runs on this machine. From the environment:

VISTUNE_IMAGE    image of every step; with VISTUNE_RELEASE=1 it must be named by digest (...@sha256:...)
VISTUNE_GPUS     GPUs of `tune` and `evaluate`, default 1; 0 runs them on CPUs
VISTUNE_GPU_TYPE resource name of a GPU, default nvidia.com/gpu
VISTUNE_CPUS     CPUs and memory of `tune`, or of each node of its job; default 4 and 16Gi
VISTUNE_MEMORY
VISTUNE_TRAIN_ON pod (default): `tune` trains in its own pod; trainjob or pytorchjob: in a job on tune.job.nodes nodes,
                 each with the GPUs, CPUs and memory of the step
VISTUNE_CLAIM    ReadWriteMany claim that step and job share, default vistune-shared
"""

import contextlib
import importlib.util
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from kfp import compiler, dsl, kubernetes

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "build" / "instruction_tuning.yaml"

REQUESTS = {  # step: (CPUs, memory)
    "resolve": ("100m", "512Mi"),
    "sources": ("1", "2Gi"),
    "adapt": ("2", "4Gi"),
    "self_instruct": ("2", "4Gi"),
    "validate": ("2", "8Gi"),
    "tune": ("4", "16Gi"),
    "evaluate": ("4", "16Gi"),
    "promote": ("1", "4Gi"),
    "report": ("1", "4Gi"),
    "verdict": ("100m", "512Mi"),
    "cleanup": ("100m", "512Mi"),
}
ON_GPU = ("tune", "evaluate")
CACHED = ("sources", "adapt", "self_instruct", "validate")  # by Kubeflow; a gate from the cache would be no gate
RETRIED = tuple(set(REQUESTS) - {"resolve", "verdict"})  # these two fail for a reason that stays

SECRETS = {  # Kubernetes secret, all optional: {key: environment variable}
    "vistune-mlflow": {
        "tracking_uri": "MLFLOW_TRACKING_URI",
        "username": "MLFLOW_TRACKING_USERNAME",
        "password": "MLFLOW_TRACKING_PASSWORD",
    },
    "vistune-teacher": {"api_key": "OPENAI_API_KEY"},
}
LABELS = {"app.kubernetes.io/name": "vistune", "app.kubernetes.io/component": "step"}  # for infra/k8s' network policies
JOBS = ("trainjob", "pytorchjob")
SHARED = "/mnt/vistune"  # where step and job have the shared claim
TEACHER = "self_instruct"  # the only step that sees the teacher's key


@dataclass(frozen=True)
class Cluster:
    """What only a cluster needs to know; a local run has none of it."""

    image: str
    gpus: int = 1
    gpu_type: str = "nvidia.com/gpu"
    train_on: str = "pod"
    claim: str = "vistune-shared"
    cpus: str = REQUESTS["tune"][0]
    memory: str = REQUESTS["tune"][1]

    @classmethod
    def from_environment(cls) -> "Cluster":
        image = os.environ.get("VISTUNE_IMAGE", "vistune:dev")
        if os.environ.get("VISTUNE_RELEASE") == "1" and not re.search(r"@sha256:[0-9a-f]{64}$", image):
            raise SystemExit(
                f"VISTUNE_IMAGE is {image!r}; a release names its image by digest (NAME@sha256:...), because "
                "Kubeflow's cache and the lineage take the name for the content."
            )
        train_on = os.environ.get("VISTUNE_TRAIN_ON", "pod")
        if train_on not in ("pod", *JOBS):
            raise SystemExit(f"VISTUNE_TRAIN_ON is {train_on!r}; expected pod, {' or '.join(JOBS)}.")
        return cls(
            image,
            int(os.environ.get("VISTUNE_GPUS", "1")),
            os.environ.get("VISTUNE_GPU_TYPE", "nvidia.com/gpu"),
            train_on,
            os.environ.get("VISTUNE_CLAIM", "vistune-shared"),
            os.environ.get("VISTUNE_CPUS", REQUESTS["tune"][0]),
            os.environ.get("VISTUNE_MEMORY", REQUESTS["tune"][1]),
        )


def component(name: str, variant: str = "") -> dsl.base_component.BaseComponent:
    """The component in components/<name>/component.py; variant: another of that file's."""
    spec = importlib.util.spec_from_file_location(f"components_{name}", ROOT / "components" / name / "component.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, variant or name)


def build(cluster: Cluster | None) -> dsl.base_component.BaseComponent:
    """The pipeline for a cluster, or for this machine."""
    steps = {name: component(name) for name in REQUESTS}
    in_job = cluster is not None and cluster.train_on in JOBS
    training = {"backend": cluster.train_on} if in_job else {}
    if in_job:
        steps["tune"] = component("tune", "tune_job")

    def step(name: str, **inputs: object) -> dsl.PipelineTask:
        task = steps[name](**inputs)
        task.set_caching_options(name in CACHED)
        if cluster is not None:
            _place(task, name, cluster)
        return task

    @dsl.pipeline(
        name="vistune-instruction-tuning",
        description="Adapt annotations, self-instruct, validate, tune, evaluate zero-shot, promote on evidence.",
    )
    def instruction_tuning(
        params: str = "", overrides: str = "", seed: int = -1, model_name: str = "", require_pass: bool = False
    ):
        """Annotated images in, a promoted vision-language model and a report out.

        Args:
            params: A whole params.yaml as text. Empty: the params.yaml of the image.
            overrides: Single parameters laid over it, one `stage.key=value` a line.
            seed: Seed of every random choice. Below 0: the one in params.
            model_name: Name in the model registry. Empty: the one in params.
            require_pass: Fail the run unless the verdict is pass (for CI).
        """
        run = dsl.PIPELINE_JOB_ID_PLACEHOLDER
        with dsl.ExitHandler(step("cleanup", run=run)) if in_job else contextlib.nullcontext():
            settings = step("resolve", params=params, overrides=overrides, seed=seed, model_name=model_name).outputs
            sources = step("sources", settings=settings["sources"]).outputs["data"]
            adapted = step("adapt", settings=settings["adapt"], sources=sources).outputs["samples"]
            written = step("self_instruct", settings=settings["self_instruct"], sources=sources).outputs["samples"]
            release = step(
                "validate", settings=settings["validate"], sources=sources, adapt=adapted, self_instruct=written
            ).outputs["release"]
            model = step("tune", settings=settings["tune"], release=release, **training).outputs["model"]
            scorecard = step(
                "evaluate", settings=settings["evaluate"], sources=sources, release=release, model=model
            ).outputs["scorecard"]
            promote = step(
                "promote",
                settings=settings["promote"],
                sources=sources,
                release=release,
                model=model,
                scorecard=scorecard,
            )
            report = step(
                "report",
                settings=settings["report"],
                sources=sources,
                adapt=adapted,
                self_instruct=written,
                release=release,
                model=model,
                scorecard=scorecard,
                promotion=promote.outputs["promotion"],
            )
            with dsl.If(require_pass == True), dsl.If(promote.outputs["Output"] != "pass"):  # noqa: E712
                step("verdict", found=promote.outputs["Output"]).after(report)

    return instruction_tuning


def _place(task: dsl.PipelineTask, name: str, cluster: Cluster) -> None:
    """Resources, retries and secrets of a step on a cluster."""
    cpus, memory = (cluster.cpus, cluster.memory) if name == "tune" else REQUESTS[name]
    task.set_display_name(name).set_cpu_request(cpus).set_memory_request(memory).set_memory_limit(memory)
    task.set_env_variable("VISTUNE_IMAGE", cluster.image)
    for key, value in LABELS.items():
        kubernetes.add_pod_label(task, key, value)
    if name in ON_GPU and cluster.gpus:
        task.set_accelerator_type(cluster.gpu_type).set_accelerator_limit(cluster.gpus)
    if name == "tune" and cluster.train_on in JOBS:
        kubernetes.mount_pvc(task, pvc_name=cluster.claim, mount_path=SHARED)
        task.set_env_variable("VISTUNE_HOME", SHARED)
    if name in RETRIED:
        task.set_retry(num_retries=2, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="600s")
    for secret, keys in SECRETS.items():
        if secret != "vistune-teacher" or name == TEACHER:
            kubernetes.use_secret_as_env(task, secret_name=secret, secret_key_to_env=keys, optional=True)


def compile_to(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(build(Cluster.from_environment()), str(target))


if __name__ == "__main__":
    compile_to(TARGET)
    print(TARGET, file=sys.stderr)
