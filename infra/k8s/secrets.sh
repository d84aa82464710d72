#!/usr/bin/env bash
# Creates the secrets of MLflow, PostgreSQL and the object store in NAMESPACE, with random passwords; makes none where
# they are there already. The keys of an external object store come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
#
#   infra/k8s/secrets.sh NAMESPACE            DRY_RUN=1 prints them instead (random ones, so of no use to anybody)
set -euo pipefail
namespace=${1:?usage: infra/k8s/secrets.sh NAMESPACE}

made() { # One List of secrets, as JSON. kubectl reads it from its input: arguments are there for all users to read
  python3 <<'PYTHON'
import json, os, secrets

database, admin, session, pipeline = (secrets.token_urlsafe(32) for _ in range(4))
uri = f"postgresql+psycopg2://mlflow:{database}@vistune-postgres:5432/mlflow"
auth = ["[mlflow]", "default_permission = READ", f"database_uri = {uri}"]
auth += ["authorization_function = mlflow.server.auth:authenticate_request_basic_auth", ""]
data = {
    "vistune-mlflow-server": {
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": session,
        "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
        "MLFLOW_AUTH_ADMIN_PASSWORD": admin,
    },
    "vistune-mlflow-auth": {"basic_auth.ini": "\n".join(auth)},
    # What the steps get: a user without rights over others (base/mlflow-user.yaml makes it)
    "vistune-mlflow": {
        "tracking_uri": "http://vistune-mlflow:5000",
        "username": "vistune-pipeline",
        "password": pipeline,
    },
    "vistune-s3": {
        "AWS_ACCESS_KEY_ID": os.environ.get("AWS_ACCESS_KEY_ID", "vistune"),
        "AWS_SECRET_ACCESS_KEY": os.environ.get("AWS_SECRET_ACCESS_KEY") or secrets.token_urlsafe(32),
    },
    "vistune-postgres": {"password": database},
}
items = [
    {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": {"name": name}, "stringData": values}
    for name, values in data.items()
]
print(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
PYTHON
}

[ -z "${DRY_RUN:-}" ] || { made && exit 0; }
names=(vistune-mlflow-server vistune-mlflow-auth vistune-mlflow vistune-s3 vistune-postgres)
there=$(kubectl get secret "${names[@]}" -n "$namespace" --ignore-not-found -o name)
case $(grep -c . <<<"$there" || true) in
  0) made | kubectl create -n "$namespace" -f - ;;
  "${#names[@]}") echo "secrets of $namespace: there already; delete them first to make new ones" ;;
  *)
    echo "secrets of $namespace: only $(xargs <<<"$there"); they share passwords with the others: delete them first" >&2
    exit 1
    ;;
esac
