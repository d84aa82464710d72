"""`make image-smoke`: builds the images on a local base, and runs them as a cluster would: as a user without rights, on
a read-only root, with no capability and no network. In the steps' image for CPUs run two pipeline steps, by the command
that the compiled pipeline holds; in the server's MLflow, as infra/k8s starts it, and what makes the pipeline's user.
Needs buildah, podman and runc (and debootstrap, unless BASE is given), as root on Linux; without them it says what is
missing and exits 0.

From the environment, all optional:
BASE        local image with `python` 3.11; default: Debian bookworm, made once with debootstrap
CA_FILE     certificates that the build trusts in place of the image's
PIP_CONF    pip.conf of the build
CPU_INDEX   package index that has torch for CPUs
BUILD_ARGS  further arguments of `buildah build`, such as --volume
GPU         1: build the image for GPUs as well, many gigabytes, and import torch in it
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "localhost/vistune:smoke"
SERVER = "localhost/vistune-mlflow:smoke"
GPU = "localhost/vistune:smoke-cuda"
BASE = "localhost/vistune-base:bookworm"
USER = "12345:0"  # any uid without an entry in /etc/passwd, as OpenShift gives
POLICIES = (Path("/etc/containers/policy.json"), Path.home() / ".config/containers/policy.json")
PODMAN = ("podman", "--runtime", "runc", "--cgroup-manager", "cgroupfs")  # crun refuses hybrid cgroups
HARDENED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
LIMITS = ("--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096")  # podman's own may be above this machine's
ALONE = ("--network", "none", "--user", USER, "--pull", "never", "--rm", *LIMITS)
TINY = """
sources.demo.train_scenes=12
sources.demo.align_scenes=4
sources.demo.validation_scenes=3
sources.demo.heldout_trained=4
sources.demo.heldout_aligned=3
sources.demo.heldout_unseen=3
sources.demo.easy_vqa_images=3
"""
IMPORTS = "torch transformers accelerate peft deepspeed mlflow dvc kfp kubernetes lm_eval great_expectations openai"
AUTH = """[mlflow]
default_permission = READ
database_uri = sqlite:////tmp/users.db
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""
SECRETS = {
    "MLFLOW_BACKEND_STORE_URI": "sqlite:////tmp/mlflow.db",
    "MLFLOW_ARTIFACTS_DESTINATION": "/tmp/artifacts",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "smoke-session",
    "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
    "MLFLOW_AUTH_ADMIN_PASSWORD": "smoke-administrator",
    "MLFLOW_TRACKING_URI": "http://localhost:5000",
    "MLFLOW_TRACKING_USERNAME": "admin",
    "MLFLOW_TRACKING_PASSWORD": "smoke-administrator",
    "PIPELINE_USERNAME": "pipeline",
    "PIPELINE_PASSWORD": "smoke-pipeline-user",
}
ANSWERS = """
import boto3, psycopg2, time, urllib.error, urllib.request
for _ in range(240):
    try:
        answer = urllib.request.urlopen("http://localhost:5000/health", timeout=5)
        break
    except OSError:
        time.sleep(1)
else:
    raise SystemExit("MLflow did not answer /health in time")
assert answer.status == 200, answer.status
try:
    urllib.request.urlopen("http://localhost:5000/api/2.0/mlflow/experiments/search?max_results=1")
except urllib.error.HTTPError as refused:
    assert refused.code == 401, refused.code
else:
    raise SystemExit("MLflow answers those who did not log in")
try:
    open("/app/written", "w")
except OSError:
    print("MLflow answers /health, asks for a password, and cannot write to its root file system")
else:
    raise SystemExit("the root file system can be written to")
"""
LOCKED = """
import importlib, pathlib, sys
for name in sys.argv[1].split():
    importlib.import_module(name)
import torch
assert not torch.cuda.is_available() and torch.ones(2).sum() == 2
try:
    pathlib.Path("/app/written").touch()
except OSError:
    pass
else:
    raise SystemExit("the root file system can be written to")
try:
    import pip
except ImportError:
    print("imports work, the root file system is read-only, there is no pip")
else:
    raise SystemExit("the image has pip")
"""


def missing() -> list[str]:
    """What this machine lacks."""
    tools = ["buildah", "podman", "runc", *([] if os.environ.get("BASE") else ["debootstrap"])]
    lost = [tool for tool in tools if not shutil.which(tool)]
    if not any(policy.is_file() for policy in POLICIES):
        lost.append("policy.json (Debian: golang-github-containers-common)")
    return lost + ["the rights of root"] * (os.geteuid() != 0)


def run(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a command; its failure ends this program with its own words above."""
    done = subprocess.run(command, text=True, check=False, **options)
    if done.returncode:
        raise SystemExit(f"image-smoke: FAILED with status {done.returncode}: {shlex.join(command)[:300]}")
    return done


def base() -> str:
    """Name of the base image; Debian's is made once and kept."""
    if given := os.environ.get("BASE"):
        return given
    if subprocess.run(["podman", "image", "exists", BASE], check=False).returncode:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            packages = "--include=python3,python3-venv,python-is-python3,ca-certificates,git"
            run("debootstrap", "--variant=minbase", packages, "bookworm", folder, stdout=subprocess.DEVNULL)
            packed = Path(folder).with_suffix(".tar")
            try:
                run("tar", "-C", folder, "-cf", str(packed), ".")
                run("podman", "import", "--quiet", str(packed), BASE)
            finally:
                packed.unlink(missing_ok=True)
    return BASE


def build(image: str, file: str, target: str, source: str) -> None:
    sha = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    command = ["buildah", "build", "--isolation", "chroot", "--layers", "--pull-never", "--target", target]
    command += ["--tag", image, "--build-arg", f"BASE={source}", "--build-arg", f"GIT_SHA={sha.stdout.strip()}"]
    for name, place in (("CA_FILE", "/etc/ssl/certs/ca-certificates.crt"), ("PIP_CONF", "/etc/pip.conf")):
        if given := os.environ.get(name):
            command += ["--volume", f"{Path(given).resolve()}:{place}:ro"]
    if target == "cpu" and (index := os.environ.get("CPU_INDEX")):
        command += ["--build-arg", f"CPU_INDEX={index}"]
    run(*command, *shlex.split(os.environ.get("BUILD_ARGS", "")), "--file", f"infra/docker/{file}", ".", cwd=ROOT)


def contained(*command: str, folder: Path | None = None, image: str = IMAGE) -> None:
    """Runs a command in an image as a cluster that trusts nothing would. folder: what /s3/smoke is."""
    volumes = ("--volume", f"{folder}:/s3/smoke") if folder else ()
    run(*PODMAN, "run", *HARDENED, *ALONE, *volumes, image, *command)


def step(spec: dict, name: str, parameters: dict[str, Any], inputs: dict[str, Path], folder: Path) -> Path:
    """Runs one component of a compiled pipeline as its launcher would, and returns the folder of its outputs.

    spec: the pipeline's IR. parameters: those without a default. inputs: artefact -> its folder, below `folder`.
    """
    component = spec["components"][f"comp-{name}"]
    container = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
    outputs = folder / name
    outputs.mkdir()
    outputs.chmod(0o770)  # for the group, which is root's, whatever the umask

    def artefact(key: str, path: Path, kind: dict) -> dict:
        return {"artifacts": [{"name": key, "uri": f"s3://smoke/{path.relative_to(folder)}", "type": kind}]}

    asked, made = component.get("inputDefinitions", {}), component.get("outputDefinitions", {})
    kinds = {key: one["artifactType"] for key, one in asked.get("artifacts", {}).items()}
    given = {
        "inputs": {
            "parameterValues": {key: parameters[key] for key in asked.get("parameters", {}) if key in parameters},
            "artifacts": {key: artefact(key, inputs[key], kind) for key, kind in kinds.items()},
        },
        "outputs": {
            "parameters": {key: {"outputFile": f"/s3/smoke/{name}/{key}"} for key in made.get("parameters", {})},
            "artifacts": {
                key: artefact(key, outputs / key, one["artifactType"]) for key, one in made.get("artifacts", {}).items()
            },
            "outputFile": f"/s3/smoke/{name}/executor_output.json",
        },
    }
    arguments = [json.dumps(given) if one == "{{$}}" else one for one in container.get("args", [])]
    contained(*container["command"], *arguments, folder=folder)
    return outputs


def steps(folder: Path) -> None:
    """Parameters and the demo's sources, tiny: the pipeline's first two steps."""
    name = "instruction_tuning"
    run(sys.executable, "pipelines/compiling.py", name, "--output", str(folder), cwd=ROOT, stderr=subprocess.DEVNULL)
    spec = next(yaml.safe_load_all((folder / f"{name}.yaml").read_text(encoding="utf-8")))
    given = {"params": "", "overrides": TINY.strip(), "seed": -1, "model_name": ""}
    resolved = step(spec, "resolve", given, {}, folder) / "executor_output.json"
    settings = json.loads(resolved.read_text(encoding="utf-8"))["parameterValues"]["sources"]
    made = step(spec, "sources", {"settings": settings}, {}, folder) / "data"
    receipt = json.loads((made / "receipt.json").read_text(encoding="utf-8"))
    owner = (made / "receipt.json").stat().st_uid
    if receipt["stage"] != "sources" or owner != int(USER.partition(":")[0]):
        raise SystemExit(f"image-smoke: FAILED: {made} holds {receipt['stage']}, written by user {owner}")


def server() -> None:
    """MLflow with users, started and asked as infra/k8s does it; SQLite stands in for PostgreSQL, a folder for S3."""
    documents = yaml.safe_load_all((ROOT / "infra/k8s/base/mlflow.yaml").read_text(encoding="utf-8"))
    (container,) = next(d for d in documents if d["kind"] == "Deployment")["spec"]["template"]["spec"]["containers"]
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        config = Path(name) / "basic_auth.ini"
        config.write_text(AUTH, encoding="utf-8")
        Path(name).chmod(0o755)
        given = {"MLFLOW_AUTH_CONFIG_PATH": "/etc/mlflow/basic_auth.ini", **SECRETS}
        variables = [word for key, value in given.items() for word in ("--env", f"{key}={value}")]
        volume = ("--volume", f"{name}:/etc/mlflow:ro")
        command = (*container["command"], *container["args"])
        started = run(
            *PODMAN, "run", "--detach", *HARDENED, *ALONE, *variables, *volume, SERVER, *command, capture_output=True
        )
        there = started.stdout.strip()
        try:
            run(*PODMAN, "exec", there, "python3", "-c", ANSWERS, timeout=300)
            for said in ("made", "was there"):
                made = run(*PODMAN, "exec", there, "python3", "/app/pipeline_user.py", capture_output=True).stdout
                if said not in made:
                    raise SystemExit(f"image-smoke: FAILED: the pipeline's user: {made}, expected {said!r}")
        except BaseException:
            subprocess.run([*PODMAN, "logs", there], check=False)
            raise
        finally:
            subprocess.run([*PODMAN, "rm", "--force", "--time", "2", there], check=False, stdout=subprocess.DEVNULL)


def main() -> int:
    if lost := missing():
        print(f"image-smoke: SKIPPED, THE IMAGE IS NOT CHECKED: this machine lacks {', '.join(lost)}")
        return 0
    start = time.monotonic()
    source = base()
    build(SERVER, "mlflow.Dockerfile", "server", source)
    server()
    build(IMAGE, "Dockerfile", "cpu", source)
    if os.environ.get("GPU"):
        build(GPU, "Dockerfile", "cuda", source)
    built = time.monotonic() - start
    contained("python3", "-c", LOCKED, IMPORTS)
    contained("vistune", "--help")
    if os.environ.get("GPU"):
        contained("python3", "-c", "import torch; assert torch.version.cuda", image=GPU)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o777)
        steps(folder)
    size = run("podman", "image", "inspect", "--format", "{{.Size}}", IMAGE, capture_output=True).stdout
    whole = time.monotonic() - start
    print(f"image-smoke: passed; {int(size) / 1e9:.2f} GB, built in {built:.0f} s, {whole:.0f} s in all")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
