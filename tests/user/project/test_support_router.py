# [examples]
import threading
import time

QUICK = {"poll_interval": 0.2}  # seconds; left out, the first look at a job comes after five


def examples(count=20):
    """A training set, one example a line."""

    def example(question, answer):
        turns = [("user", question), ("model", answer)]
        return {"contents": [{"role": role, "parts": [{"text": text}]} for role, text in turns]}

    return [example(f"Question {i}?", f"Answer {i}.") for i in range(count)]


# [end]


# [success]
def test_success(run_dag, storage_emulator, tuning_emulator):
    storage_emulator.put("train.jsonl", examples())

    run = run_dag("support_router", QUICK)

    assert run.state == "success"
    assert run.xcom("publish") == run.xcom("tune")["endpoint"]
    assert run.xcom("tune")["example_count"] == 20
    assert tuning_emulator.jobs()[0]["baseModel"].endswith("gemini-3.5-flash")


# [end]


# [bad-data]
def test_bad_data_fails_at_once(run_dag, storage_emulator, tuning_emulator, capfd):
    storage_emulator.put("train.jsonl", [{"contents": []}])

    run = run_dag("support_router", QUICK)

    assert run.tasks == {"tune": "failed", "publish": "upstream_failed"}
    assert run.tries["tune"] == 1  # a retry could not mend it
    assert len(tuning_emulator.jobs()) == 1
    assert "contents" in capfd.readouterr().out  # what the API says is in the task's log


# [end]


# [lost-answer]
def test_a_lost_answer_pays_once(run_dag, storage_emulator, tuning_emulator):
    storage_emulator.put("train.jsonl", examples())
    tuning_emulator.fault(method="POST", path_regex="/tuningJobs$", drop="after_processing")

    run = run_dag("support_router", QUICK)

    assert run.state == "success"
    assert len(tuning_emulator.jobs()) == 1


# [end]


# [quota]
def test_it_waits_for_quota(run_dag, storage_emulator, tuning_emulator):
    storage_emulator.put("train.jsonl", examples())
    full = {"status": 429, "headers": {"Retry-After": "1"}}
    tuning_emulator.fault(method="POST", path_regex="/tuningJobs$", times=2, **full)

    run = run_dag("support_router", QUICK)

    assert run.state == "success"
    assert run.tries["tune"] == 1  # waiting takes no retry
    assert len(tuning_emulator.jobs()) == 1


# [end]


# [retry]
def fail_the_first_job(emulator):
    """Let the first job break down at Google's end, as soon as it is there."""

    def watch():
        while not (jobs := emulator.jobs()):
            time.sleep(0.05)
        emulator.set_state(jobs[0]["name"], "JOB_STATE_FAILED", {"code": 13, "message": "Internal error."})

    threading.Thread(target=watch, daemon=True).start()


def test_a_retry_pays_for_a_new_job_where_one_broke_down(run_dag, storage_emulator, tuning_emulator):
    storage_emulator.put("train.jsonl", examples())
    fail_the_first_job(tuning_emulator)

    run = run_dag("support_router", QUICK)

    assert run.state == "success"
    assert run.tries["tune"] == 2
    states = [job["state"] for job in tuning_emulator.jobs()]
    assert states == ["JOB_STATE_FAILED", "JOB_STATE_SUCCEEDED"]


# [end]


# [clear]
def test_a_clear_returns_the_same_model_at_no_cost(run_dag, storage_emulator, tuning_emulator):
    storage_emulator.put("train.jsonl", examples())
    run = run_dag("support_router", QUICK)

    again = run.clear()

    assert again.xcom("tune")["endpoint"] == run.xcom("tune")["endpoint"]
    assert len(tuning_emulator.jobs()) == 1

    run_dag("support_router", QUICK)  # another run, which pays
    assert len(tuning_emulator.jobs()) == 2


# [end]
