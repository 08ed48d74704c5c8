"""Google's own clients against the server: the proof that it speaks the API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from google import genai
from google.api_core import exceptions
from google.api_core.client_options import ClientOptions
from google.cloud import aiplatform_v1, aiplatform_v1beta1
from google.genai import errors, types
from google.oauth2.credentials import Credentials

from airflow_tuning_provider.emulator.testing import Emulator

from .conftest import Client
from .discovery import assert_valid
from .storage import Storage, example, turn
from .test_jobs import wait_for

PROJECT = "my-project"
LOCATION = "us-central1"
PARENT = f"projects/{PROJECT}/locations/{LOCATION}"


@pytest.fixture(scope="module")
def storage() -> Iterator[Storage]:
    server = Storage()
    server.put("train.jsonl", [example(f"What is {i} plus {i}?", f"It is {2 * i}.") for i in range(20)])
    yield server
    server.stop()


@pytest.fixture(scope="module")
def shared_emulator(storage: Storage) -> Iterator[Emulator]:
    with Emulator(speed=2000, env={"STORAGE_EMULATOR_HOST": storage.url}) as emulator:
        yield emulator


TRAIN = "gs://tuning-data/train.jsonl"


def genai_client(emulator: Emulator, version: str, **options: Any) -> genai.Client:
    http = types.HttpOptions(base_url=emulator.url, api_version=version, **options)
    credentials = Credentials(token="fake")
    return genai.Client(
        vertexai=True, project=PROJECT, location=LOCATION, credentials=credentials, http_options=http
    )


@pytest.fixture(params=["v1", "v1beta1"])
def gen(emulator: Emulator, request: pytest.FixtureRequest) -> genai.Client:
    return genai_client(emulator, request.param)


def gapic_client(emulator: Emulator, module: Any) -> Any:
    options = ClientOptions(api_endpoint=emulator.url)
    credentials = Credentials(token="fake")
    return module.GenAiTuningServiceClient(transport="rest", credentials=credentials, client_options=options)


@pytest.fixture(params=[aiplatform_v1, aiplatform_v1beta1], ids=["v1", "v1beta1"])
def gapic(emulator: Emulator, request: pytest.FixtureRequest) -> tuple[Any, Any]:
    return gapic_client(emulator, request.param), request.param


def everything_valid(emulator: Emulator) -> None:
    """Check each job, in both versions, against the discovery document."""
    call = Client(emulator.url)
    for job in emulator.jobs():
        assert_valid(job, "TuningJob", "v1beta1")
        for version in ("v1", "v1beta1"):
            assert_valid(call("GET", f"/{version}/{job['name']}").json, "TuningJob", version)
    for version in ("v1", "v1beta1"):
        page = call("GET", f"/{version}/{PARENT}/tuningJobs")
        assert_valid(page.json, "ListTuningJobsResponse", version)


# --- google-genai


def test_genai_tunes_and_asks(gen: genai.Client, emulator: Emulator) -> None:
    config = types.CreateTuningJobConfig(
        tuned_model_display_name="sums",
        epoch_count=3,
        learning_rate_multiplier=1.5,
        adapter_size="ADAPTER_SIZE_EIGHT",
        export_last_checkpoint_only=False,
        labels={"team": "a"},
    )
    dataset = types.TuningDataset(gcs_uri=TRAIN)
    job = gen.tunings.tune(base_model="gemini-3.5-flash", training_dataset=dataset, config=config)
    assert job.state == types.JobState.JOB_STATE_PENDING
    everything_valid(emulator)
    wait_for(Client(emulator.url), job.name, "JOB_STATE_SUCCEEDED")
    job = gen.tunings.get(name=job.name)
    assert job.has_succeeded
    assert job.tuned_model_display_name == "sums"
    assert job.supervised_tuning_spec.hyper_parameters.epoch_count == 3
    assert job.supervised_tuning_spec.hyper_parameters.adapter_size == types.AdapterSize.ADAPTER_SIZE_EIGHT
    assert job.tuning_data_stats.supervised_tuning_data_stats.tuning_dataset_example_count == 20
    assert [c.checkpoint_id for c in job.tuned_model.checkpoints] == ["1", "2", "3"]
    tuned = gen.models.generate_content(model=job.tuned_model.endpoint, contents="What is 7 plus 7?")
    assert tuned.text == "It is 14."
    assert tuned.usage_metadata.prompt_token_count > 0
    base = f"{PARENT.replace('us-central1', 'global')}/publishers/google/models/gemini-3.5-flash"
    plain = gen.models.generate_content(model=base, contents="What is 7 plus 7?")
    assert "14" not in plain.text
    everything_valid(emulator)


def test_genai_lists_in_pages_and_filters(gen: genai.Client, emulator: Emulator) -> None:
    names = []
    for i in range(5):
        config = types.CreateTuningJobConfig(labels={"n": str(i % 2)})
        dataset = types.TuningDataset(gcs_uri=TRAIN)
        job = gen.tunings.tune(base_model="gemini-3.5-flash", training_dataset=dataset, config=config)
        names.append(job.name)
    assert [job.name for job in gen.tunings.list(config={"page_size": 2})] == names[::-1]
    some = gen.tunings.list(config={"page_size": 2, "filter": 'labels.n=1 AND state!="JOB_STATE_FAILED"'})
    assert [job.name for job in some] == [names[3], names[1]]
    everything_valid(emulator)


def test_genai_cancels(gen: genai.Client, emulator: Emulator) -> None:
    dataset = types.TuningDataset(gcs_uri=TRAIN)
    job = gen.tunings.tune(base_model="gemini-3.5-flash", training_dataset=dataset)
    gen.tunings.cancel(name=job.name)
    wait_for(Client(emulator.url), job.name, "JOB_STATE_CANCELLED")
    job = gen.tunings.get(name=job.name)
    assert job.state == types.JobState.JOB_STATE_CANCELLED
    assert job.error.code == 1
    with pytest.raises(errors.ClientError) as e:
        gen.tunings.cancel(name=job.name)
    assert (e.value.code, e.value.status) == (400, "FAILED_PRECONDITION")
    everything_valid(emulator)


def test_genai_preference_and_continuous_tuning(
    gen: genai.Client, emulator: Emulator, storage: Storage
) -> None:
    answer = {"score": 1, "completion": turn("model", "b")}, {"score": 0, "completion": turn("model", "c")}
    uri = storage.put("preference.jsonl", [{"contents": [turn("user", "a")], "completions": list(answer)}])
    config = types.CreateTuningJobConfig(
        method="PREFERENCE_TUNING", beta=0.1, adapter_size="ADAPTER_SIZE_ONE"
    )
    dataset = types.TuningDataset(gcs_uri=uri)
    job = gen.tunings.tune(base_model="gemini-3.5-flash", training_dataset=dataset, config=config)
    wait_for(Client(emulator.url), job.name, "JOB_STATE_SUCCEEDED")
    job = gen.tunings.get(name=job.name)
    assert job.preference_optimization_spec.hyper_parameters.beta == 0.1
    dataset = types.TuningDataset(gcs_uri=TRAIN)
    more = gen.tunings.tune(base_model=job.tuned_model.model, training_dataset=dataset)
    assert more.pre_tuned_model.tuned_model_name == job.tuned_model.model
    everything_valid(emulator)


def test_genai_sees_errors(gen: genai.Client, emulator: Emulator) -> None:
    dataset = types.TuningDataset(gcs_uri="gs://bucket/train.csv")
    with pytest.raises(errors.ClientError, match="should be a GCS object of type JSONL") as bad:
        gen.tunings.tune(base_model="gemini-3.5-flash", training_dataset=dataset)
    assert bad.value.status == "INVALID_ARGUMENT"
    with pytest.raises(errors.ClientError) as missing:
        gen.tunings.get(name=f"{PARENT}/tuningJobs/1")
    assert (missing.value.code, missing.value.status) == (404, "NOT_FOUND")
    emulator.fault(status=503, times=1)
    with pytest.raises(errors.ServerError) as down:
        gen.tunings.get(name=f"{PARENT}/tuningJobs/1")
    assert down.value.status == "UNAVAILABLE"


async def test_genai_asynchronously(emulator: Emulator) -> None:
    client = genai_client(emulator, "v1")
    dataset = types.TuningDataset(gcs_uri=TRAIN)
    job = await client.aio.tunings.tune(base_model="gemini-3.5-flash", training_dataset=dataset)
    await client.aio.tunings.cancel(name=job.name)
    assert (await client.aio.tunings.get(name=job.name)).state.value.startswith("JOB_STATE_CANCELL")


def test_genai_repeats_a_create_that_was_lost(emulator: Emulator) -> None:
    retry = types.HttpRetryOptions(attempts=3, initial_delay=0.01, max_delay=0.02)
    client = genai_client(emulator, "v1", retry_options=retry)
    emulator.fault(status=503, method="POST", times=2)
    client.tunings.tune(base_model="gemini-3.5-flash", training_dataset=types.TuningDataset(gcs_uri=TRAIN))
    assert [r["status"] for r in emulator.requests()] == [503, 503, 200]


# --- google-cloud-aiplatform


def body(module: Any, uri: str = TRAIN, **more: Any) -> Any:
    spec = module.SupervisedTuningSpec(
        training_dataset_uri=uri,
        hyper_parameters=module.SupervisedHyperParameters(epoch_count=3, adapter_size="ADAPTER_SIZE_FOUR"),
    )
    return module.TuningJob(base_model="gemini-3.5-flash", supervised_tuning_spec=spec, **more)


def test_gapic_tunes(gapic: tuple[Any, Any], emulator: Emulator) -> None:
    client, module = gapic
    job = client.create_tuning_job(parent=PARENT, tuning_job=body(module, labels={"team": "a"}))
    assert job.state == module.JobState.JOB_STATE_PENDING
    wait_for(Client(emulator.url), job.name, "JOB_STATE_SUCCEEDED")
    job = client.get_tuning_job(name=job.name)
    assert job.state == module.JobState.JOB_STATE_SUCCEEDED
    assert job.end_time > job.start_time > job.create_time
    assert job.supervised_tuning_spec.hyper_parameters.epoch_count == 3
    four = module.SupervisedHyperParameters.AdapterSize.ADAPTER_SIZE_FOUR
    assert job.supervised_tuning_spec.hyper_parameters.adapter_size == four
    stats = job.tuning_data_stats.supervised_tuning_data_stats
    assert stats.total_billable_token_count == stats.user_input_token_distribution.sum + (
        stats.user_output_token_distribution.sum
    )
    assert job.tuned_model.checkpoints[-1].epoch == 3
    assert job.experiment
    everything_valid(emulator)


def test_gapic_lists_in_pages(gapic: tuple[Any, Any], emulator: Emulator) -> None:
    client, module = gapic
    names = [client.create_tuning_job(parent=PARENT, tuning_job=body(module)).name for _ in range(3)]
    request = {"parent": PARENT, "page_size": 2, "filter": 'state="JOB_STATE_PENDING"'}
    emulator.set_state(names[0], "JOB_STATE_PENDING")
    for name in names:
        emulator.set_state(name, "JOB_STATE_PENDING")
    assert [job.name for job in client.list_tuning_jobs(request=request)] == names[::-1]


def test_gapic_cancels(gapic: tuple[Any, Any], emulator: Emulator) -> None:
    client, module = gapic
    job = client.create_tuning_job(parent=PARENT, tuning_job=body(module))
    client.cancel_tuning_job(name=job.name)
    wait_for(Client(emulator.url), job.name, "JOB_STATE_CANCELLED")
    assert client.get_tuning_job(name=job.name).error.code == 1
    with pytest.raises(exceptions.BadRequest, match="is not cancellable"):
        client.cancel_tuning_job(name=job.name)


def test_gapic_sees_errors(gapic: tuple[Any, Any], emulator: Emulator) -> None:
    client, module = gapic
    with pytest.raises(exceptions.BadRequest, match="List of found errors:") as bad:
        client.create_tuning_job(parent=PARENT, tuning_job=body(module, "gs://b/x.csv"))
    violation = bad.value.details[0]["fieldViolations"][0]
    assert violation["field"] == "tuning_job.supervised_tuning_spec.training_dataset_uri"
    with pytest.raises(exceptions.NotFound):
        client.get_tuning_job(name=f"{PARENT}/tuningJobs/1")
    emulator.fault(status=429)
    with pytest.raises(exceptions.TooManyRequests):
        client.get_tuning_job(name=f"{PARENT}/tuningJobs/1")


def test_gapic_rebases(gapic: tuple[Any, Any], emulator: Emulator) -> None:
    client, module = gapic
    job = client.create_tuning_job(parent=PARENT, tuning_job=body(module))
    tuned = wait_for(Client(emulator.url), job.name, "JOB_STATE_SUCCEEDED")["tunedModel"]["model"]
    request = {"parent": PARENT, "tuned_model_ref": {"tuned_model": tuned}}
    operation = client.rebase_tuned_model(request=request)
    name = operation.operation.name
    assert client.get_operation({"name": name}).name == name
    new = wait_for(Client(emulator.url), name.partition("/operations/")[0], "JOB_STATE_SUCCEEDED")
    assert new["baseModel"] == "gemini-3.5-flash"
    assert new["tunedModel"]["endpoint"].startswith(
        new["name"].partition("/locations/")[0] + "/locations/us/"
    )
    done = client.get_operation({"name": name})
    assert done.done
    result = module.TuningJob()
    assert done.response.Unpack(result._pb)
    assert result.name == new["name"]
    everything_valid(emulator)


def test_a_request_is_recorded_without_its_token(emulator: Emulator) -> None:
    client = genai_client(emulator, "v1")
    with pytest.raises(errors.ClientError):
        client.tunings.get(name=f"{PARENT}/tuningJobs/1")
    (request,) = emulator.requests()
    assert request["headers"]["authorization"] == "<redacted>"
    assert "google-genai-sdk" in request["headers"]["x-goog-api-client"]
    assert (request["method"], request["status"]) == ("GET", 404)
