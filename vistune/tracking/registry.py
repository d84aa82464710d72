"""Logged models, versions of registered models, and their aliases."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vistune.tracking.runs import connect, reachable


@dataclass(frozen=True)
class Version:
    """One version of a registered model."""

    name: str
    version: str
    run_id: str
    source: str  # model URI it was registered from
    tags: dict[str, str]
    aliases: tuple[str, ...]
    created: int  # milliseconds since 1970

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"


def log_vlm(
    model: Path,
    code: Path,
    run_id: str,
    name: str = "model",
    requirements: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
) -> str:
    """Logs the model folder `model` to run `run_id` and returns its URI ("models:/m-...").

    `code` is a Python file that ends with `tracking.serve(...)`. What it serves finds the folder under
    `context.artifacts["model"]`; its `predict` gets a DataFrame with the string columns `image` and `question`
    and returns one string per row.
    """
    client = connect()
    import mlflow
    from mlflow.models.signature import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    signature = ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "image"), ColSpec(DataType.string, "question")]),
        outputs=Schema([ColSpec(DataType.string)]),
        params=ParamSchema([ParamSpec("max_new_tokens", DataType.long, 32)]),
    )
    with reachable(), _as_run(client, run_id):
        info = mlflow.pyfunc.log_model(
            name=name,
            python_model=str(code),
            artifacts={"model": str(model)},
            signature=signature,
            pip_requirements=list(requirements) or ["vistune"],
            metadata=dict(metadata or {}),
        )
    return info.model_uri


def serve(model: Any) -> None:
    """Names the model of a models-from-code file: an object with `load_context(context)` and
    `predict(context, model_input, params)`."""
    import pandas as pd
    from mlflow.models import set_model
    from mlflow.pyfunc import PythonModel

    def load_context(self: Any, context: Any) -> None:
        model.load_context(context)

    def predict(self: Any, context: Any, model_input: Any, params: Mapping[str, Any] | None = None) -> Any:
        return model.predict(context, model_input, params)

    predict.__annotations__ = {"model_input": pd.DataFrame}  # MLflow warns at any load when it is not said
    set_model(type("Served", (PythonModel,), {"load_context": load_context, "predict": predict})())


@contextlib.contextmanager
def _as_run(client: Any, run_id: str) -> Iterator[None]:
    """`run_id` as the active run of mlflow's fluent calls, without ending it: its status stays as it was."""
    import mlflow

    before = client.get_run(run_id).info.status
    with mlflow.start_run(run_id=run_id):
        yield
    client.update_run(run_id, status=before)


def register_version(model_uri: str, name: str, run_id: str = "", tags: Mapping[str, str] | None = None) -> Version:
    """Registers a logged model as the next version of `name`; the registered model is created if needed."""
    client = connect()
    from mlflow.exceptions import MlflowException

    with reachable():
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        model_id = model_uri.removeprefix("models:/") if model_uri.startswith("models:/m-") else None
        made = client.create_model_version(
            name, model_uri, run_id=run_id or None, tags=dict(tags or {}), model_id=model_id
        )
    return _version(made)


def get_version(name: str, version: str) -> Version:
    with reachable():
        return _version(connect().get_model_version(name, version))


def get_alias(name: str, alias: str) -> Version | None:
    """The version that `alias` names, or None when there is no such model or alias."""
    client = connect()
    from mlflow.exceptions import MlflowException

    with reachable():
        try:
            return _version(client.get_model_version_by_alias(name, alias))
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            # A server with users denies the permission for a model that is not there; its search tells the two apart.
            if not client.search_registered_models(f"name = '{name}'", max_results=1):
                return None
            raise


def set_alias(name: str, alias: str, version: str) -> None:
    with reachable():
        connect().set_registered_model_alias(name, alias, version)


def delete_alias(name: str, alias: str) -> None:
    with reachable():
        connect().delete_registered_model_alias(name, alias)


def set_version_tag(name: str, version: str, key: str, value: str) -> None:
    with reachable():
        connect().set_model_version_tag(name, version, key, value[:5000])


def model_tags(name: str) -> dict[str, str]:
    """The tags of a registered model, which are not those of its versions."""
    with reachable():
        return dict(connect().get_registered_model(name).tags)


def set_model_tag(name: str, key: str, value: str) -> None:
    with reachable():
        connect().set_registered_model_tag(name, key, value[:5000])


def delete_model_tag(name: str, key: str) -> None:
    with reachable():
        connect().delete_registered_model_tag(name, key)


def describe_version(name: str, version: str, text: str) -> None:
    """Sets the version's description (Markdown): the model card."""
    with reachable():
        connect().update_model_version(name, version, text)


def search_versions(name: str) -> list[Version]:
    """All versions of `name`, newest first; none when there is no such model."""
    with reachable():
        client = connect()
        found = [_version(v) for v in client.search_model_versions(f"name = '{name}'")]
        # MLflow's search leaves the aliases out
        aliases = dict(client.get_registered_model(name).aliases) if found else {}
    found = [replace(v, aliases=tuple(sorted(a for a, n in aliases.items() if str(n) == v.version))) for v in found]
    return sorted(found, key=lambda v: int(v.version), reverse=True)


def versions_with(key: str, value: str) -> list[Version]:
    """The versions of all registered models that have this tag, newest first."""
    with reachable():
        found = connect().search_model_versions(f"tags.`{key}` = '{value}'")
    wanted = {(v.name, str(v.version)) for v in found}
    known = [v for name in sorted({v.name for v in found}) for v in search_versions(name)]
    return sorted((v for v in known if (v.name, v.version) in wanted), key=lambda v: v.created, reverse=True)


@contextlib.contextmanager
def model_files(version: Version) -> Iterator[Path]:
    """The files of a version where they lie, or, for a while, a copy of them if the store is remote."""
    client = connect()
    import mlflow

    with tempfile.TemporaryDirectory(prefix="vistune-") as scratch:
        with reachable():
            store = client.get_logged_model(version.source.removeprefix("models:/")).artifact_location
            target = None if store.startswith(("/", "file:")) else scratch
            folder = mlflow.artifacts.download_artifacts(artifact_uri=version.uri, dst_path=target)
        yield Path(folder)


def model_metadata(folder: Path) -> dict[str, Any]:
    """What `log_vlm` was given as metadata, as the model's own files have it."""
    from mlflow.models import get_model_info

    with reachable():
        return dict(get_model_info(str(folder)).metadata or {})


def load_pyfunc(model_uri: str) -> Any:
    """A loaded model whose `predict(dataframe)` answers; the URI may be "models:/NAME@champion"."""
    connect()
    import mlflow

    with reachable():
        return mlflow.pyfunc.load_model(model_uri)


def model_folder(model_uri: str) -> Path:
    """The local path of a logged model's files, downloaded if the store is remote."""
    connect()
    import mlflow

    with reachable():
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=model_uri))


def _version(v: Any) -> Version:
    return Version(
        v.name,
        str(v.version),
        v.run_id or "",
        v.source or "",
        dict(v.tags or {}),
        tuple(v.aliases or ()),
        int(v.creation_timestamp or 0),
    )
