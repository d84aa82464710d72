#!/usr/bin/env bash
# Creates the secrets of MLflow, PostgreSQL and the object store in NAMESPACE, with random passwords, and leaves those
# that exist as they are. The keys of an external object store come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
#
#   infra/k8s/secrets.sh NAMESPACE            DRY_RUN=1 prints them instead (random ones, so of no use to anybody)
set -euo pipefail
namespace=${1:?usage: infra/k8s/secrets.sh NAMESPACE}

random() { python3 -c 'import secrets; print(secrets.token_urlsafe(32))'; }

secret() { # NAME KEY=VALUE...
  local name=$1 file
  shift
  file=$(umask 077 && mktemp)
  # Through a file, since arguments of a command are there for all users of the machine to read.
  printf '%s\n' "$@" | NAME=$name python3 -c '
import json, os, sys
pairs = (line.partition("=") for line in sys.stdin.read().replace("\\n", "\x00").splitlines())
data = {key: value.replace("\x00", "\n") for key, _, value in pairs}
made = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": os.environ["NAME"]}, "type": "Opaque", "stringData": data}
print(json.dumps(made))' >"$file"
  if [ -n "${DRY_RUN:-}" ]; then
    cat "$file"
  elif kubectl get secret "$name" -n "$namespace" >/dev/null 2>&1; then
    echo "secret $name: there already"
  else
    kubectl create -n "$namespace" -f "$file"
  fi
  rm -f "$file"
}

database=$(random) admin=$(random)
uri="postgresql+psycopg2://mlflow:$database@vistune-postgres:5432/mlflow"
if [ -z "${DRY_RUN:-}" ] && kubectl get secret vistune-postgres -n "$namespace" >/dev/null 2>&1; then
  echo "secrets of $namespace: there already; delete them first to make new ones" && exit 0
fi
secret vistune-mlflow-server "MLFLOW_BACKEND_STORE_URI=$uri" "MLFLOW_FLASK_SERVER_SECRET_KEY=$(random)" \
  "MLFLOW_AUTH_ADMIN_USERNAME=admin" "MLFLOW_AUTH_ADMIN_PASSWORD=$admin"
secret vistune-mlflow-auth "basic_auth.ini=[mlflow]\ndefault_permission = READ\ndatabase_uri = $uri\nauthorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
secret vistune-mlflow "tracking_uri=http://vistune-mlflow:5000" "username=admin" "password=$admin" # of the steps
secret vistune-s3 "AWS_ACCESS_KEY_ID=${AWS_ACCESS_KEY_ID:-vistune}" "AWS_SECRET_ACCESS_KEY=${AWS_SECRET_ACCESS_KEY:-$(random)}"
secret vistune-postgres "password=$database" # the last: where it is, all are
