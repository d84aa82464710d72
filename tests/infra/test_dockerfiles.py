"""The images: packages locked by hash, nothing installed in the final stages, no user with rights, no stray file."""

import importlib.metadata
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from vistune.tracking.runs import uri

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "infra/docker"
lock = runpy.run_path(str(DOCKER / "lock.py"), run_name="lock")
pins, normal = lock["pins"], lock["normal"]
PINNED = pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
LOCKS = {path.stem: path.read_text(encoding="utf-8") for path in DOCKER.glob("*.lock")}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
ON_GPU = {normal(name) for extra in lock["ON_GPU"] for name in EXTRAS[extra]}


def stages(file: str) -> dict[str, list[tuple[str, str]]]:
    """Stage -> its instructions, those of the stage that it starts from first."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / file).read_text(encoding="utf-8"))
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            source, _, name = rest.partition(" AS ")
            found[name] = list(found.get(source, [("FROM", source)]))
        elif word and not word.startswith("#") and name in found:
            found[name].append((word, rest.strip()))
    return found


def needed(names: list[str]) -> set[str]:
    """Normalised names of packages and of all that they need here, on Linux."""
    todo, seen = [(Requirement(one), "") for one in names], set()
    while todo:
        requirement, extra = todo.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        for one in ("", *requirement.extras):
            if (key := (normal(requirement.name), one)) not in seen:
                seen.add(key)
                todo += [(Requirement(text), one) for text in importlib.metadata.requires(requirement.name) or []]
    return {name for name, _ in seen}


def test_every_pin_that_a_step_needs_is_locked_by_one_hash_and_no_other_is():
    """All of constraints.txt but what only development needs; torch has a lock for each image."""
    locked = pins(LOCKS["requirements"])
    assert locked.pop("setuptools"), "builds what comes as source"
    assert locked.items() <= PINNED.items(), "every version is that of constraints.txt"
    assert {*lock["EXTRAS"], *lock["ON_GPU"]} == set(EXTRAS) - {"dev", "formats"}
    steps = needed([*PROJECT["dependencies"], *(one for extra in lock["EXTRAS"] for one in EXTRAS[extra])])
    assert {*locked, "torch"} == steps - {"setuptools"}
    left = set(PINNED) - steps - ON_GPU
    assert left <= needed(EXTRAS["dev"]), "left out, although not only development needs it"


def test_torch_has_one_hash_for_each_index():
    assert pins(LOCKS["torch-cpu"]) == {"torch": f"{PINNED['torch']}+cpu"}
    cuda = pins(LOCKS["torch-cuda"])
    assert cuda.pop("torch") == PINNED["torch"]
    assert {"triton", "nvidia-nccl-cu13", "nvidia-cublas"} <= set(cuda)
    assert {name: cuda.pop(name) for name in ON_GPU} == {name: PINNED[name] for name in ON_GPU}
    assert all(re.match("nvidia-|cuda-|triton$", name) for name in cuda), "nothing that constraints.txt should pin"


def test_the_server_and_the_weights():
    server = pins(LOCKS["mlflow"])
    assert {*map(normal, lock["SERVER"])} <= server.keys() & PINNED.keys()
    assert pins(lock["DATABASE"]).items() <= server.items()
    assert {name: PINNED[name] for name in server if name in PINNED}.items() <= server.items()
    weights = re.search(r"^WEIGHTS := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    assert lock["WEIGHTS"] == weights and pins(LOCKS["weights"]) == pins(weights)


@pytest.mark.parametrize("name", sorted(LOCKS))
def test_a_lock_is_packages_and_hashes_alone(name):
    """No index, no address: where files come from is the machine's affair, what they are is not."""
    about, *lines = LOCKS[name].splitlines()
    assert about.endswith("Written by `make lock`.")
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.+]+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)
    names = [line.partition("==")[0] for line in lines]
    assert names == sorted(set(names)), "each once"


@pytest.mark.parametrize("file", ["infra/docker/Dockerfile", "infra/docker/mlflow.Dockerfile"])
def test_everything_is_installed_from_a_lock(file):
    text = re.sub(r"\\\n\s*", " ", (ROOT / file).read_text(encoding="utf-8"))
    installs = re.findall(r"pip install ([^&\n]+)", text)
    for arguments in installs:
        if arguments.split()[-1] == ".":  # our own code, built by the locked setuptools
            assert "--no-deps" in arguments and "--no-build-isolation" in arguments
        else:
            assert "--require-hashes" in arguments and "--no-deps" in arguments
            assert arguments.split()[-2] == "-r"
            assert Path(arguments.split()[-1]).stem in {*LOCKS, "setuptools"}
    assert len(installs) >= 1 and "constraints" not in text


@pytest.mark.parametrize(("target", "build"), [("cpu", "build-cpu"), ("cuda", "build-cuda")])
def test_final_stages(target, build):
    found = stages("infra/docker/Dockerfile")
    made = found[target]
    words = [word for word, _ in made]
    assert made[0] == ("FROM", "${BASE}"), "not a build stage, so no compiler and no cache"
    assert "RUN" not in words
    assert [rest for word, rest in made if word == "USER"] == ["10001:0"]
    assert words[-1] == "USER"
    labels = next(rest for word, rest in made if word == "LABEL")
    assert 'org.opencontainers.image.revision="${GIT_SHA}"' in labels
    version = next(rest for word, rest in made if word == "ARG" and rest.startswith("VERSION="))
    assert version == f'VERSION="{PROJECT["version"]}"'
    environment = next(rest for word, rest in made if word == "ENV")
    for name in ("HOME=/tmp", "VISTUNE_HOME=/tmp/", "PYTHONDONTWRITEBYTECODE=1"):
        assert name in environment, "the root file system is read-only"
    assert "PIP_NO_INDEX=1" in environment
    copied = [rest for word, rest in made if word == "COPY" and rest.startswith("--from")]
    assert copied == [f"--from={build} /opt/vistune /opt/vistune", "--from=code /opt/code /opt/code"]
    assert "pip uninstall --yes pip" in found[build][-1][1], "nothing is installed while a step runs"
    assert "pip check" in found[build][-1][1]


def test_the_server_has_no_rights_either():
    made = stages("infra/docker/mlflow.Dockerfile")["server"]
    assert "RUN" not in [word for word, _ in made] and ("USER", "10001:0") in made


def test_the_default_target_is_for_gpus():
    assert list(stages("infra/docker/Dockerfile"))[-1] == "cuda"


def test_what_is_copied_is_there_and_not_ignored():
    listed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    used = set()
    for file in ("infra/docker/Dockerfile", "infra/docker/mlflow.Dockerfile"):
        for made in stages(file).values():
            for word, rest in made:
                if word == "COPY" and not rest.startswith("--from"):
                    for source in rest.split()[:-1]:
                        assert list(ROOT.glob(source)), source
                        names = [one for one in listed if Path(source).match(one) or source == one]
                        assert names, f"{source} is left out by .dockerignore"
                        used |= set(names)
    assert used == set(listed), ".dockerignore lets in what no image needs"


@pytest.mark.parametrize("file", ["infra/docker/Dockerfile", "infra/docker/mlflow.Dockerfile"])
def test_every_name_that_a_stage_uses_is_there(file):
    """Arguments are declared, other stages come before, and a lock is copied before it is installed from: what a build
    of the target for GPUs would find out only after gigabytes."""
    text = (ROOT / file).read_text(encoding="utf-8")
    everywhere = set(re.findall(r"^ARG (\w+)", text.partition("FROM ")[0], re.MULTILINE))
    done: set[str] = set()
    for name, made in stages(file).items():
        declared, copied = {"PATH"}, set()
        for word, rest in made:
            used = set(re.findall(r"\$\{?(\w+)\}?", rest))
            assert used <= (everywhere if word == "FROM" else declared), (name, word, rest)
            if word in ("ARG", "ENV"):
                declared |= set(re.findall(r"(\w+)=", rest)) | {rest.partition("=")[0]}
            if word == "COPY":
                source = re.match(r"--from=(\S+)", rest)
                assert not source or source[1] in done, (name, rest)
                copied |= {Path(one).name for one in rest.split()[:-1]}
            if word == "RUN":
                copied |= set(re.findall(r"> (\S+\.lock)", rest))
                needed_here = {Path(one).name for one in re.findall(r"-r (\S+)", rest)}
                assert needed_here <= copied, (name, needed_here - copied)
        done.add(name)
    assert done


def test_the_mlflow_server_is_the_version_of_the_steps():
    assert f"newTag: {PINNED['mlflow']}" in (ROOT / "infra/k8s/overlays/gpu/kustomization.yaml").read_text()


def test_the_smoke_test_says_what_is_missing(tmp_path):
    """Status 0, and one line that cannot be overlooked."""
    (tmp_path / "runc").symlink_to(shutil.which("true"))
    done = subprocess.run(
        [sys.executable, str(DOCKER / "smoke.py")],
        env={"PATH": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith(
        "image-smoke: SKIPPED, THE IMAGE IS NOT CHECKED: this machine lacks buildah, podman, debootstrap"
    )
    assert " runc" not in line


def test_without_a_server_mlflow_is_where_a_step_can_write(own_home, monkeypatch):
    """In the image the repository's copy is read-only."""
    assert uri() == f"sqlite:///{ROOT / 'mlflow.db'}"
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != ROOT)
    assert uri() == f"sqlite:///{own_home / 'mlflow.db'}"
