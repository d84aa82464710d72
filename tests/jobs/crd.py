"""The schemas that clusters serve, read where they lie beside the repository; strict, as `fieldValidation=Strict`."""

from functools import cache
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

FOLDER = Path(__file__).parents[3] / "shared" / "fixtures" / "crds"
FILES = {
    "trainjobs": "trainer.kubeflow.org_trainjobs.yaml",
    "pytorchjobs": "kubeflow.org_pytorchjobs.yaml",
    "clustertrainingruntimes": "trainer.kubeflow.org_clustertrainingruntimes.yaml",
}

missing = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"NOT CHECKED AGAINST THE CLUSTERS' SCHEMAS: {FOLDER} is not there"
)


def strict(schema: object) -> object:
    """A CRD's schema as JSON Schema that refuses unknown fields."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {}
    for key, value in schema.items():
        if key == "properties":
            made[key] = {name: strict(one) for name, one in value.items()}
        elif not key.startswith("x-") and key != "format":
            made[key] = strict(value)
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    return made


@cache
def validator(plural: str) -> Draft202012Validator:
    text = (FOLDER / FILES[plural]).read_text(encoding="utf-8")
    (version,) = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))["spec"]["versions"]
    schema = strict(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return Draft202012Validator(schema)


def problems(plural: str, body: dict) -> list[str]:
    """What a strict API server would refuse about an object."""
    if not FOLDER.is_dir() or plural not in FILES:
        return []
    found = [f"{'.'.join(map(str, e.absolute_path))}: {e.message}" for e in validator(plural).iter_errors(body)]
    return found + [f"{where}: quantities are strings" for where in unquoted(body, "")]


def unquoted(value: object, where: str) -> list[str]:
    """Quantities that are numbers: old API servers refuse them."""
    if isinstance(value, dict):
        return [p for k, v in value.items() for p in unquoted(v, f"{where}.{k}")]
    if isinstance(value, list):
        return [p for n, v in enumerate(value) for p in unquoted(v, f"{where}.{n}")]
    quantity = ".limits." in where or ".requests." in where
    return [where] if quantity and not isinstance(value, str) else []
