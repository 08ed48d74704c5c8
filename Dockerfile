# Airflow with this provider, and (target "emulators") what stands in for Google Cloud.
# No secret goes in: docker-compose.yaml mounts them when a container starts.
ARG AIRFLOW_IMAGE=apache/airflow:3.3.2-python3.13

FROM ${AIRFLOW_IMAGE} AS wheel
COPY --chown=50000:0 . /tmp/source
RUN mkdir /tmp/out && cd /tmp/source && cp constraints.txt deploy/*.py /tmp/out \
 && pip wheel --no-cache-dir --no-deps --wheel-dir /tmp/out .

FROM ${AIRFLOW_IMAGE} AS airflow
COPY --from=wheel --chown=50000:0 /tmp/out /opt/airflow/deploy
# Naming Airflow's version keeps pip from replacing the one of the image. Volumes are mounted at the
# directories and take over their owner, so that nothing has to run as root.
RUN pip install --no-cache-dir "apache-airflow==${AIRFLOW_VERSION}" "$(echo /opt/airflow/deploy/*.whl)[gcs]" \
 && cd /opt/airflow && mkdir -p state tls secrets secrets-api-server secrets-dag-processor secrets-migrate \
    secrets-postgres secrets-redis secrets-scheduler secrets-triggerer secrets-worker
USER 50000

FROM airflow AS emulators
RUN pip install --no-cache-dir --constraint /opt/airflow/deploy/constraints.txt gcp-storage-emulator

# What "docker build ." makes.
FROM airflow
