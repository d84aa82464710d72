"""Ids that tie a result to what made it: git revision, DVC md5, image. The one file that imports dvc."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import logging
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from configparser import ConfigParser
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import vistune
from vistune.errors import VistuneError
from vistune.files import files_under, link_tree, made_once
from vistune.params import resolve
from vistune.pins import DVC, Tracked, replaced, tracked
from vistune.stages import EXECUTION, STAGES, Settings, receipt, repository

KFP_RUN = "VISTUNE_KFP_RUN"
"""Environment variable: id of the Kubeflow run that a step belongs to."""

PLATFORM = {
    "image": "VISTUNE_IMAGE",
    "kfp.run_id": KFP_RUN,
    "kfp.pipeline_version_id": "VISTUNE_KFP_PIPELINE_VERSION",
}
"""Tag -> environment variable by which a cluster says what runs here."""


@cache
def git(root: Path | None = None) -> tuple[str, bool]:
    """(commit, dirty) of the repository that holds the code; ("", False) outside a git checkout.

    dvc.lock does not count: a run writes it. In an image there is no checkout: `VISTUNE_GIT_SHA` says which commit it
    was built from.
    """
    given = os.environ.get("VISTUNE_GIT_SHA", "")
    if given:
        return given, False
    root = root or repository()
    sha = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    return sha, bool(
        _git(root, "status", "--porcelain", "--untracked-files=normal", "--", ":!dvc.lock")
    ) if sha else False


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git on this machine
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def ids() -> dict[str, str]:
    """Tags that say which code ran: vistune's version, the git commit, and the image on a cluster."""
    sha, dirty = git()
    found = {"vistune.version": vistune.__version__}
    found |= {tag: os.environ.get(variable, "") for tag, variable in PLATFORM.items()}
    if sha:
        found |= {"git.sha": sha, "git.dirty": str(dirty).lower()}
    return {key: value for key, value in found.items() if value}


def dvc_md5(folder: Path) -> str:
    """The md5 that DVC 3 records for a folder ("<32 hex>.dir"): of the JSON list of its files' md5s by path.

    DVC ignores `execution.json` (see .dvcignore), so the md5 is a function of the data alone.
    """
    entries = []
    for path in files_under(folder):
        if path.name != EXECUTION:
            entries.append({"md5": _md5(path), "relpath": path.relative_to(folder).as_posix()})
    entries.sort(key=lambda e: e["relpath"])
    tree = json.dumps(entries, sort_keys=True).encode()
    return hashlib.md5(tree, usedforsecurity=False).hexdigest() + ".dir"


def _md5(path: Path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def remote(md5: str) -> dict[str, str]:
    """The tag `dvc.remote`: where DVC pushes what dvc.lock records under `md5`. Empty when that is not under DVC, or no
    default remote is configured. Passwords are left out."""
    import yaml

    from vistune.tracking import redact_text

    found = ConfigParser(interpolation=None)
    found.read([repository() / ".dvc" / "config", repository() / ".dvc" / "config.local"], encoding="utf-8")
    name = found.get("core", "remote", fallback="")
    url = found.get(f"'remote \"{name}\"'", "url", fallback="")
    lock = repository() / "dvc.lock"
    if not (url and md5 and lock.is_file()):
        return {}
    stages = (yaml.safe_load(lock.read_text(encoding="utf-8")) or {}).get("stages", {})
    held = {out.get("md5") for stage in stages.values() for out in stage.get("outs", [])}
    return {"dvc.remote": redact_text(url)} if md5 in held else {}


def missing_in_remote(md5: str) -> list[str]:
    """What of a folder under DVC (`md5` ends with ".dir") the default remote does not hold: paths in the folder, or
    the md5 itself. Raises VistuneError when the remote cannot be asked."""
    from dvc.config import ConfigError
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(repository())) as repo:
            store = repo.cloud.get_remote_odb(hash_name="md5")
            if not store.exists(md5):
                return [md5]
            entries = json.loads(store.fs.cat_file(store.oid_to_path(md5)))
            held = set(store.oids_exist([entry["md5"] for entry in entries]))
    except (DvcException, ConfigError, OSError) as error:
        raise VistuneError(f"DVC's remote does not answer: {error}. Check `dvc remote list` and your access.") from None
    return [entry["relpath"] for entry in entries if entry["md5"] not in held]


def pin(data: Tracked) -> Tracked:
    """Data under DVC with the commit that its revision is now, and the md5 that DVC records there. Nothing of the data
    is read. Raises VistuneError when the repository, the revision or the path is not there."""
    with _dvc(data) as repo:
        try:
            found = repo.dvcfs.info(data.path)
        except FileNotFoundError:
            raise VistuneError(f"{data} is not there. Check the path in that revision.") from None
        md5 = found.get("md5") if (found.get("dvc_info") or {}).get("isdvc") else ""
        if not md5:
            raise VistuneError(f"{data} is not tracked by DVC as a whole. Name a file, or the folder of a .dvc file.")
        return dataclasses.replace(data, revision=repo.get_rev(), md5=md5)


def fetch(data: Tracked, home: Path) -> Path:
    """The file or folder that a pinned reference names, fetched once into `home`/dvc. Raises VistuneError when DVC's
    remote does not give it, or gives something else."""
    name, whole = PurePosixPath(data.path).name, data.md5.endswith(".dir")

    def get(folder: Path) -> None:
        with _dvc(data) as repo:
            repo.dvcfs.get(data.path, str(folder / name), recursive=whole)
        got = dvc_md5(folder / name) if whole else _md5(folder / name)
        if got != data.md5:
            raise VistuneError(f"DVC gave {got} for {data}. The remote is damaged, or .dvcignore hides a file of it.")

    return made_once(home / "dvc" / data.md5, get) / name


def pinned(params: Any) -> Any:
    """Parameters in which data under DVC is named by commit and md5. Raises as `pin`."""

    def change(text: str) -> str:
        if not text.startswith(DVC):
            return text
        data = Tracked.read(text)
        return text if data.pinned else str(pin(data))

    return replaced(params, change) if tracked(params) else params


def fetched(params: Any, home: Path) -> Any:
    """Pinned parameters with the paths of what they name under DVC. Raises as `fetch`."""
    return replaced(params, lambda t: str(fetch(Tracked.read(t), home)) if t.startswith(DVC) else t)


@contextlib.contextmanager
def _dvc(data: Tracked) -> Iterator[Any]:
    """The repository of data under DVC, at its revision."""
    from dvc.exceptions import DvcException
    from dvc.fs import AuthError, ConfigError, RemoteMissingDepsError
    from dvc.repo import Repo
    from dvc_data.index import DataIndexDirError

    where = data.repository or str(repository())
    logging.getLogger("dvc").setLevel(logging.ERROR)  # what it warns of is said below
    try:
        newest = "HEAD" if Path(where).exists() else None  # of a folder DVC would read the working tree
        with Repo.open(where, rev=data.revision or newest, subrepos=True, uninitialized=True) as repo:
            yield repo
    except (DvcException, DataIndexDirError, AuthError, ConfigError, RemoteMissingDepsError, OSError) as error:
        why = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
        raise VistuneError(
            f"{data} cannot be had ({why[0].rstrip('.')}). Check the repository, the revision and your access to both "
            "git and DVC's remote; in a container there is no checkout, so the address must be in the reference."
        ) from None


def commit_exists(sha: str) -> bool:
    """Whether the repository has a commit."""
    return bool(_git(repository(), "rev-parse", "--verify", "--quiet", f"{sha}^{{commit}}"))


def code_at(sha: str, stages: Sequence[str]) -> dict[str, str]:
    """`stages.code_digest` of stages as commit `sha` has their code; empty when it cannot be computed there."""
    folders = ["vistune", *sorted({folder for stage in stages for folder in STAGES[stage].reads})]
    say = f"print(json.dumps({{s: code_digest(s) for s in {list(stages)!r}}}))"
    with tempfile.TemporaryDirectory() as place:
        archive = Path(place) / "code.tar"
        _git(repository(), "archive", "--format=tar", "-o", str(archive), sha, "--", *folders)
        if not archive.is_file() or not archive.stat().st_size:  # git leaves an empty file where it fails
            return {}
        with tarfile.open(archive) as tar:
            if hasattr(tarfile, "data_filter"):  # from Python 3.11.4 on; git itself wrote the archive
                tar.extraction_filter = tarfile.data_filter
            tar.extractall(place)
        environment = {**os.environ, "PYTHONPATH": place, "VISTUNE_ROOT": place}
        command = [sys.executable, "-c", f"import json; from vistune.stages import code_digest; {say}"]
        done = subprocess.run(command, env=environment, cwd=place, capture_output=True, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else {}


def recorded_md5(stage: str) -> str:
    """The md5 of `outputs/<stage>` in dvc.lock; empty when it holds none."""
    import yaml

    lock = repository() / "dvc.lock"
    if not lock.is_file():
        return ""
    stages = (yaml.safe_load(lock.read_text(encoding="utf-8")) or {}).get("stages", {})
    outs = stages.get(stage, {}).get("outs", [])
    return next((o.get("md5", "") for o in outs if o.get("path") == f"outputs/{stage}"), "")


def track_sources(sources: Path, run: Settings) -> str:
    """Puts the sources of a finished run under DVC (`outputs/sources`, dvc.lock) and says in a sentence what was
    done. `sources` is the stage's output folder; nothing is copied or hashed when DVC already has this version.

    dvc.lock says what params.yaml gives, so the sources of a run with other parameters are left out of it.
    """
    root = repository()
    md5 = receipt(sources).dvc_md5
    if not _git(root, "rev-parse", "--git-dir") or not (root / ".dvc").is_dir():
        return "DVC does not track the sources: this is not a git repository with DVC."
    plain = Settings.parse(resolve(root / "params.yaml"))
    if (plain.seed, plain.sections["sources"]) != (run.seed, run.sections["sources"]):
        return f"DVC does not track the sources (md5 {md5}): this run's parameters are not those of params.yaml."
    target = root / "outputs" / "sources"
    if recorded_md5("sources") == md5 and (target / EXECUTION).is_file() and receipt(target).dvc_md5 == md5:
        return f"DVC has the sources: md5 {md5}"
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    link_tree(sources, target)
    logging.getLogger("dvc").setLevel(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), Repo(str(root)) as repo:  # what was done is the return value
            repo.commit("sources", force=True)
    except DvcException as error:
        return f"DVC does not track the sources: {error}"
    return f"DVC tracks the sources: md5 {md5} (commit dvc.lock to keep it)"
