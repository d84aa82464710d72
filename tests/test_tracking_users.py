"""A server with users, which denies the permission for a model that is not there. tests/infra/test_mlflow_user.py asks
a real one."""

import pytest

from vistune.errors import VistuneError
from vistune.tracking import registry


class Denying:
    """What MLflow's client says to a user without rights over others."""

    def __init__(self, readable: list[str]) -> None:
        self.readable = readable

    def get_model_version_by_alias(self, name: str, alias: str) -> None:
        from mlflow.exceptions import MlflowException

        raise MlflowException("API request failed with error code 403 != 200. Response body: 'Permission denied'")

    def search_registered_models(self, filter_string: str, max_results: int) -> list[str]:
        return [name for name in self.readable if filter_string == f"name = '{name}'"][:max_results]


def test_no_permission_for_a_model_that_is_not_there_means_no_alias(monkeypatch):
    monkeypatch.setattr(registry, "connect", lambda: Denying(["another"]))
    assert registry.get_alias("new-model", "champion") is None


def test_no_permission_for_a_model_that_is_there_is_an_error(monkeypatch):
    monkeypatch.setattr(registry, "connect", lambda: Denying(["new-model"]))
    with pytest.raises(VistuneError, match="Permission denied"):
        registry.get_alias("new-model", "champion")
