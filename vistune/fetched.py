"""Models from anywhere, laid out as `tune` leaves its own, so that `evaluate` reads any of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vistune.errors import VistuneError
from vistune.files import link_tree, tree_digest, write_json
from vistune.pins import HUB, hub
from vistune.stages import EXECUTION, RECEIPT, Receipt, receipt

if TYPE_CHECKING:
    from vistune.component import Artifact


def fetch(
    settings: Mapping[str, Any], model: str, base: str, trained_on: str, fetched: Artifact, release: Artifact
) -> dict[str, Any]:
    """Fills `fetched` with the folders `model` and, where one is named, `base`; `release` with the release that the
    model was trained on, or an empty one. Returns the settings of `evaluate`, without a base where there is none.
    Raises VistuneError for a reference that is none of those of `place`."""
    target = Path(fetched.path)
    named = {folder: pinned(reference) for folder, reference in (("model", model), ("base", base)) if reference}
    for folder, reference in named.items():
        link_tree(place(reference), target / folder)
    _seal(target, "tune", {"fetched": named})
    fetched.metadata.update({"fetched": named["model"], "digest": tree_digest(target / "model")})
    _release(trained_on, Path(release.path))
    section = dict(settings.get("evaluate") or {})
    if not base:
        section["conditions"] = {**(section.get("conditions") or {}), "base": []}
    print(f"fetched {', '.join(named.values())}", flush=True)
    return {**settings, "evaluate": section}


def pinned(reference: str) -> str:
    """The reference with what it names now: an alias of the registry its version, a hub id its commit."""
    name, at, alias = reference.removeprefix("models:/").partition("@")
    if not reference.startswith("models:/"):
        return hub(reference)
    if not at:
        return reference
    from vistune import tracking

    version = tracking.get_alias(name, alias)
    if version is None:
        raise VistuneError(f"the registry has no {reference}. Check the name and the alias, and MLFLOW_TRACKING_URI.")
    return version.uri


def place(reference: str) -> Path:
    """The folder of a model, of a reference that is `pinned`: models:/NAME/VERSION in the registry; ORG/NAME@COMMIT on
    the hub; a folder with config.json, or the output of `tune`."""
    if reference.startswith("models:/"):
        return _registered(reference)
    folder = Path(reference)
    for found in (folder, folder / "model"):
        if (found / "config.json").is_file():
            return found
    if folder.exists():
        raise VistuneError(f"{reference} holds no model: neither config.json nor model/config.json is there.")
    there = HUB.fullmatch(reference)
    if not there or not there["revision"]:
        raise VistuneError(
            f"{reference!r} is no folder here and no model's name. Expected models:/NAME@ALIAS, models:/NAME/VERSION, "
            "ORG/NAME or ORG/NAME@REVISION (a hub id), or a folder."
        )
    from vistune.models.weights import published

    folder = published(there["name"], there["revision"], safe=True)
    if not any(folder.glob("*.safetensors")):
        raise VistuneError(f"{reference} has no safetensors weights; others can run code when read.")
    return folder


def _registered(uri: str) -> Path:
    from vistune import tracking

    for config in sorted(tracking.model_folder(uri).glob("artifacts/*/config.json")):
        return config.parent
    raise VistuneError(f"{uri} holds no model folder: it was not registered by `vistune promote`.")


def _release(trained_on: str, target: Path) -> None:
    from vistune.store import write_rejects, write_samples

    if trained_on:
        if receipt(Path(trained_on)).stage != "validate":
            raise VistuneError(f"{trained_on} is the output of {receipt(Path(trained_on)).stage}, not of validate.")
        link_tree(Path(trained_on), target)
        return
    target.mkdir(parents=True, exist_ok=True)
    write_samples(target, [])
    write_rejects(target, [])
    _seal(target, "validate", {"unknown": "what the model was trained on"})


def _seal(folder: Path, stage: str, details: dict[str, Any]) -> None:
    """A receipt that names no inputs: `promote` refuses such a model, since nothing says where it comes from."""
    for name in (RECEIPT, EXECUTION):
        (folder / name).unlink(missing_ok=True)
    done = Receipt(stage, tree_digest(folder), {"counts": {}, "metrics": {}, "details": details})
    write_json(folder / RECEIPT, {"stage": done.stage, "digest": done.digest, "summary": done.summary})
