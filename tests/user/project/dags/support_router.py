from airflow.sdk import DAG, task

from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator

PARAMS = {"data": "gs://test-bucket/train.jsonl", "poll_interval": 60}

with DAG("support_router", schedule=None, params=PARAMS):
    tune = CreateTuningJobOperator(
        task_id="tune",
        base_model="gemini-3.5-flash",
        training_dataset_uri="{{ params.data }}",
        epoch_count=3,
        poll_interval="{{ params.poll_interval }}",
        retries=1,
        retry_delay=1,
    )

    @task
    def publish(model: dict) -> str:
        return model["endpoint"]

    publish(tune.output)
