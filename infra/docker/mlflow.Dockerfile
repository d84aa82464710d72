# The MLflow server of infra/k8s: MLflow with users, PostgreSQL and S3. Of the same version as the steps'.
#
#   docker build -f infra/docker/mlflow.Dockerfile --build-arg BASE=python:3.11-slim@sha256:... -t vistune-mlflow .
ARG BASE=python:3.11-slim

FROM ${BASE} AS packages
RUN python -m venv /opt/mlflow
ENV PATH=/opt/mlflow/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY infra/docker/mlflow.lock /src/
RUN pip install --require-hashes --no-deps -r /src/mlflow.lock && pip check && pip uninstall --yes pip

FROM ${BASE} AS server
ARG GIT_SHA=""
LABEL org.opencontainers.image.title="vistune-mlflow" \
      org.opencontainers.image.description="MLflow server with users, PostgreSQL and S3" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${GIT_SHA}"
COPY --from=packages /opt/mlflow /opt/mlflow
COPY infra/docker/pipeline_user.py /app/
ENV PATH=/opt/mlflow/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PIP_NO_INDEX=1 MLFLOW_DISABLE_TELEMETRY=true HOME=/tmp
USER 10001:0
EXPOSE 5000
CMD ["mlflow", "server", "--help"]
