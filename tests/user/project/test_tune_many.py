from test_support_router import QUICK, examples


def test_each_has_a_job_and_a_name(run_dag, storage_emulator, tuning_emulator):
    storage_emulator.put("train.jsonl", examples())

    run = run_dag("tune_many", QUICK)

    assert run.tasks == {"tune[0]": "success", "tune[1]": "success"}
    assert run.names == {"tune[0]": "1 epochs", "tune[1]": "3 epochs"}
    labels = sorted(job["labels"]["airflow-map-index"] for job in tuning_emulator.jobs())
    assert labels == ["0", "1"]
    assert run.xcom("tune[1]")["hyper_parameters"]["epoch_count"] == 3
