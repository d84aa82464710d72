"""Makes the MLflow user that the steps of the pipeline log in as; where it is there, gives it its password again.

It may create experiments and registered models, change those, and read the others; it administers no user. Runs in the
server's image, as the Job of infra/k8s/base/mlflow-user.yaml.

From the environment:
MLFLOW_TRACKING_URI                                  the server
MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD   its administrator
PIPELINE_USERNAME, PIPELINE_PASSWORD                 the user
"""

import os

from mlflow.exceptions import MlflowException
from mlflow.server.auth.client import AuthServiceClient


def main() -> None:
    name, password = os.environ["PIPELINE_USERNAME"], os.environ["PIPELINE_PASSWORD"]
    users = AuthServiceClient(os.environ["MLFLOW_TRACKING_URI"])
    try:
        user = users.get_user(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise SystemExit(f"MLflow does not say whether user {name} is there: {error}") from None
        users.create_user(name, password)
        print(f"user {name} made")
        return
    if user.is_admin:
        raise SystemExit(f"{name} is an administrator of MLflow; the pipeline needs a user of its own, without rights.")
    users.update_user_password(name, password)
    print(f"user {name} was there; its password is that of the secret")


if __name__ == "__main__":
    main()
