"""Ids that tie a result to what made it: git revision, DVC md5, image. The one file that imports dvc."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import subprocess
from functools import cache
from pathlib import Path

import vistune
from vistune.files import files_under, link_tree
from vistune.params import resolve
from vistune.stages import EXECUTION, Settings, receipt, repository


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
    found = {"vistune.version": vistune.__version__, "image": os.environ.get("VISTUNE_IMAGE", "")}
    if sha:
        found |= {"git.sha": sha, "git.dirty": str(dirty).lower()}
    return {key: value for key, value in found.items() if value}


def dvc_md5(folder: Path) -> str:
    """The md5 that DVC 3 records for a folder ("<32 hex>.dir"): of the JSON list of its files' md5s by path.

    DVC ignores `execution.json` (see .dvcignore), so the md5 is a function of the data alone.
    """
    entries = []
    for path in files_under(folder):
        if path.name == EXECUTION:
            continue
        with open(path, "rb") as f:
            md5 = hashlib.file_digest(f, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        entries.append({"md5": md5, "relpath": path.relative_to(folder).as_posix()})
    entries.sort(key=lambda e: e["relpath"])
    tree = json.dumps(entries, sort_keys=True).encode()
    return hashlib.md5(tree, usedforsecurity=False).hexdigest() + ".dir"


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
