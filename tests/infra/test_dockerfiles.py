"""The images: nothing is installed in the final stages, no user with rights, no file that should not be there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


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


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_final_stages(target):
    made = stages("infra/Dockerfile")[target]
    words = [word for word, _ in made]
    assert made[0] == ("FROM", "${BASE}"), "not a build stage, so no compiler and no cache"
    assert "RUN" not in words
    assert [rest for word, rest in made if word == "USER"] == ["10001:0"]
    assert words[-1] == "USER"
    labels = next(rest for word, rest in made if word == "LABEL")
    assert 'org.opencontainers.image.revision="${GIT_SHA}"' in labels
    environment = next(rest for word, rest in made if word == "ENV")
    for name in ("HOME=/tmp", "VISTUNE_HOME=/tmp/", "PYTHONDONTWRITEBYTECODE=1"):
        assert name in environment, "the root file system is read-only"
    assert f"--from=build-{target} /opt/vistune /opt/vistune" in [rest for word, rest in made if word == "COPY"]


def test_the_default_target_is_for_gpus():
    assert list(stages("infra/Dockerfile"))[-1] == "cuda"


def test_both_builds_install_the_same_but_for_torch():
    found = stages("infra/Dockerfile")
    rest = [
        [one for one in found[name] if " torch" not in one[1] and '"torch' not in one[1]]
        for name in ("build-cpu", "build-cuda")
    ]
    assert [one for one in rest[0] if one[0] != "ARG"] == rest[1]
    assert all(any("pip check" in rest for _, rest in found[name]) for name in ("build-cpu", "build-cuda"))
    assert re.search(r"^torch==\d[\d.]+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)


def test_what_is_copied_is_there_and_not_ignored():
    listed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for file in ("infra/Dockerfile", "infra/mlflow/Dockerfile"):
        for made in stages(file).values() or [[]]:
            for word, rest in made:
                if word == "COPY" and not rest.startswith("--from"):
                    for source in rest.split()[:-1]:
                        assert (ROOT / source).exists(), source
                        assert source.partition("/")[0] in listed, source


def test_the_mlflow_server_is_the_version_of_the_steps():
    wanted = (ROOT / "infra/mlflow/requirements.txt").read_text().split("\n")
    assert "mlflow" in wanted, "pinned by constraints.txt"
    pinned = re.search(r"^mlflow==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    assert f"newTag: {pinned}" in (ROOT / "infra/k8s/overlays/gpu/kustomization.yaml").read_text()
