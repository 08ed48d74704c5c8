from airflow.sdk import DAG

from airflow_tuning_provider.operators.tuning_job import CreateTuningJobOperator

with DAG("tune_many", schedule=None, params={"poll_interval": 60}):
    CreateTuningJobOperator.partial(
        task_id="tune",
        base_model="gemini-3.5-flash",
        training_dataset_uri="gs://test-bucket/train.jsonl",
        poll_interval="{{ params.poll_interval }}",
        map_index_template="{{ task.epoch_count }} epochs",
    ).expand(epoch_count=[1, 3])
