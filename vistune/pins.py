"""References that may move, and what they stand for: data under DVC at a revision, models of the hub, folders.

    dvc:https://git.example.org/shelf.git//data/images@v3    what DVC tracks there; without an address: this repository
    ORG/NAME, ORG/NAME@REVISION                              a model of the hub

`resolve` replaces both by what never changes, before any other step runs (see `vistune.resolved`), and every step takes
that as its parameter: `dvc:...@COMMIT#MD5` and `ORG/NAME@COMMIT`. A folder cannot say in its name what it holds, so its
digest is kept beside the parameters.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vistune.errors import VistuneError
from vistune.files import tree_digest
from vistune.hashing import file_digest

DVC = "dvc:"
COMMIT = re.compile(r"[0-9a-f]{40}")
TRACKED = re.compile(
    r"dvc:(?P<repository>(?:[\w+.-]+://)?\S*?)//(?P<path>[^@#]+)(?:@(?P<revision>[^@#\s]+))?(?:#(?P<md5>[0-9a-f]{32}(\.dir)?))?"
)
HUB = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")

MODELS = ("language", "vision")
"""Parameters of `tune` that name models, besides those of `named`; several are joined by commas."""

FILES = {"tune": (*MODELS, "evidence"), "evaluate": ("evidence",)}
"""Parameters that may name a folder or a file whose digest belongs to the result."""

SECONDS = 10.0
"""For which the hub's answer is awaited."""


@dataclass(frozen=True)
class Tracked:
    """Data under DVC.

    >>> Tracked.read("dvc:https://git.example.org/a.git//data/images@v3")
    Tracked(repository='https://git.example.org/a.git', path='data/images', revision='v3', md5='')
    >>> str(replace(Tracked.read("dvc://data"), revision="0" * 40, md5="1" * 32 + ".dir"))[:22]
    'dvc://data@00000000000'
    """

    repository: str  # address or folder of a git repository; empty: this one
    path: str
    revision: str = ""  # empty: the newest commit of the default branch, of this repository the checked-out one
    md5: str = ""

    @classmethod
    def read(cls, text: str) -> Tracked:
        """Raises VistuneError for what is no such reference."""
        found = TRACKED.fullmatch(text)
        if not found:
            raise VistuneError(
                f"{text!r} names no data under DVC; expected dvc:REPOSITORY//PATH@REVISION, or dvc://PATH@REVISION for "
                "this repository."
            )
        if re.search(r"://[^/@]*:[^/@]*@", found["repository"]):
            raise VistuneError("an address of data under DVC holds a password. Leave it out: git asks its own helper.")
        return cls(found["repository"], found["path"], found["revision"] or "", found["md5"] or "")

    def __str__(self) -> str:
        at = f"@{self.revision}" if self.revision else ""
        return f"{DVC}{self.repository}//{self.path}{at}" + (f"#{self.md5}" if self.md5 else "")

    @property
    def pinned(self) -> bool:
        return bool(self.md5 and COMMIT.fullmatch(self.revision))


def replaced(value: Any, change: Callable[[str], str]) -> Any:
    """`value` (parameters as dataclasses, or as a tree) with every text put through `change`.

    >>> replaced({"a": ["x", 1], "b": "y"}, str.upper)
    {'a': ['X', 1], 'b': 'Y'}
    """
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)(replaced(one, change) for one in value)
    if isinstance(value, Mapping):
        return {key: replaced(one, change) for key, one in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        return replace(value, **{name: replaced(one, change) for name, one in fields.items()})
    return value


def texts(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every text in parameters, with its dotted name."""
    if isinstance(value, str):
        yield prefix, value
        return
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, one in pairs:
        yield from texts(one, f"{prefix}.{key}" if prefix else str(key))


def tracked(value: Any) -> bool:
    """Whether any text of `value` names data under DVC."""
    return any(text.startswith(DVC) for _, text in texts(value))


def named(family: str) -> tuple[str, ...]:
    """Parameters of `tune` that name a model with this family alone: elsewhere a preset is a size."""
    return ("preset",) if family == "auto" else ()


def held(stage: str, params: Any) -> dict[str, str]:
    """Parameter -> the immutable id it names: of data under DVC, of a model of the hub, and of a folder or file that is
    here, whose bytes are read."""
    found = {name: text for name, text in texts(params) if text.startswith(DVC) and Tracked.read(text).pinned}
    for name in (*FILES.get(stage, ()), *named(getattr(params, "family", ""))):
        ids = [_id(part) for part in str(getattr(params, name, "") or "").split(",")]
        if any(ids):
            found[name] = ",".join(ids)
    return found


def _id(reference: str) -> str:
    path = Path(reference)
    if reference and path.exists():
        return f"sha256:{tree_digest(path) if path.is_dir() else file_digest(path)}"
    hub = HUB.fullmatch(reference)
    return reference if hub and COMMIT.fullmatch(hub["revision"] or "") else ""


def hub(reference: str) -> str:
    """A model of the hub with its commit; a path, a packaged model and one that has its commit as they are. Raises
    VistuneError when the hub does not say, and nothing of that model lies in the cache."""
    found = HUB.fullmatch(reference)
    if not found or Path(reference).exists() or COMMIT.fullmatch(found["revision"] or ""):
        return reference
    from huggingface_hub import HfApi, errors, snapshot_download

    name, revision = found["name"], found["revision"] or "main"
    try:
        sha = HfApi(endpoint=os.environ.get("HF_ENDPOINT")).model_info(name, revision=revision, timeout=SECONDS).sha
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError):
        raise VistuneError(
            f"the hub has no model {name} at {revision}, or does not show it to you. Check the name and the revision, "
            "and HF_TOKEN for a model behind a gate."
        ) from None
    except (errors.HfHubHTTPError, errors.HTTPError, OSError, ValueError) as error:
        try:
            sha = Path(snapshot_download(name, revision=revision, local_files_only=True)).name
        except (errors.LocalEntryNotFoundError, OSError, ValueError):
            why = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            raise VistuneError(
                f"the hub does not say which commit of {name} {revision} is ({why}). Check the network and "
                f"HF_ENDPOINT, or name the commit ({name}@COMMIT) or a folder."
            ) from None
        print(f"the hub cannot be asked; {name}@{revision} is what the cache has", flush=True)
    if not sha or not COMMIT.fullmatch(sha):
        raise VistuneError(f"the hub gave {sha!r} for {name} at {revision}; expected a commit of 40 digits.")
    return f"{name}@{sha}"
