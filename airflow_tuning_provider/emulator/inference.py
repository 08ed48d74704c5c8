"""Which answers an endpoint or a model gives."""

from __future__ import annotations

import asyncio
from typing import Any

from airflow_tuning_provider.emulator import generate, quality
from airflow_tuning_provider.emulator.clock import now
from airflow_tuning_provider.emulator.errors import ApiError, invalid_argument, not_found
from airflow_tuning_provider.emulator.lifecycle import SUCCESS, JobRecord, view
from airflow_tuning_provider.emulator.models import ModelChecks
from airflow_tuning_provider.emulator.names import endpoint_location, project_number
from airflow_tuning_provider.emulator.registry import serves
from airflow_tuning_provider.emulator.resources import checkpoint_count
from airflow_tuning_provider.emulator.store import Store
from airflow_tuning_provider.emulator.tokens import content_characters, content_tokens

# Of so many training data sets, the newest ones.
_UNTUNED_KNOWS_OF = 3


class Inference:
    """generateContent on publisher models and on the endpoints of tuned models."""

    def __init__(self, store: Store, models: ModelChecks) -> None:
        self._store = store
        self._models = models
        self._indexes = generate.Indexes()

    async def publisher_model(
        self, project: str, location: str, model: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        """Answer as an untuned model, which knows a part of what tuned ones have learnt."""
        self._models.check_calling(model, project, location)
        generate.check_request(body)
        prompt = generate.question(body)
        answer = None
        for corpus in self._store.corpora(_UNTUNED_KNOWS_OF):
            answer = await self._answer(corpus, prompt, f"general:{model}", quality.UNTUNED)
            if answer is not None:
                break
        return generate.response(body, answer or generate.generic_answer(prompt), model)

    def count_tokens(
        self, project: str, location: str, body: dict[str, Any], *, model: str = "", endpoint: str = ""
    ) -> dict[str, Any]:
        """Count the tokens of a request, which is free."""
        if endpoint:
            self._served(project, location, endpoint)
        else:
            self._models.check_calling(model, project, location)
        generate.check_request(body)
        contents = [*body["contents"], body.get("systemInstruction")]
        total = sum(map(content_tokens, contents))
        return {
            "totalTokens": total,
            "totalBillableCharacters": sum(map(content_characters, contents)),
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": total}],
        }

    async def endpoint(self, project: str, location: str, id_: str, body: dict[str, Any]) -> dict[str, Any]:
        """Answer as the tuned model behind an endpoint: from the nearest training example."""
        job = self._served(project, location, id_)
        generate.check_request(body)
        prompt = generate.question(body)
        answer = None
        if job.corpus:
            share = quality.quality_of(job)
            answer = await self._answer(job.corpus, prompt, f"tuned:{share:.4f}", share)
        return generate.response(body, answer or generate.generic_answer(prompt), job.base_model)

    async def _answer(self, corpus: str, prompt: str, who: str, share: float) -> str | None:
        """Return the answer of the nearest training example, or another one where the model is wrong."""
        pairs = self._store.corpus(corpus)
        # Building the index of a large data set takes a while.
        index = await asyncio.to_thread(self._indexes.get, corpus, pairs)
        answer = index.answer(prompt)
        if answer is None or quality.is_right(who, prompt, share):
            return answer
        return quality.wrong_answer(prompt, answer, index.answers) or generate.generic_answer(prompt)

    def _served(self, project: str, location: str, id_: str) -> JobRecord:
        """Return the job behind an endpoint that has its model, or raise Google's 404."""
        found = self._store.endpoint(id_)
        number = project_number(project)
        if found is None:
            raise _no_endpoint(project, location, id_)
        job, checkpoint = found
        where = endpoint_location(job.location, job.base_model)
        here = (job.number, where) == (number, location) and checkpoint <= checkpoint_count(job)
        here = here and serves(job, checkpoint, now())
        if not here or view(job, now()).state not in SUCCESS:
            raise _no_endpoint(project, location, id_)
        return job

    def not_an_endpoint(self, project: str, location: str, model: str) -> ApiError:
        """Return Google's refusal of a model resource where an endpoint is needed."""
        return invalid_argument(
            generate.malformed_model(f"projects/{project}/locations/{location}/models/{model}")
        )


def _no_endpoint(project: str, location: str, id_: str) -> ApiError:
    return not_found(f"Endpoint `projects/{project}/locations/{location}/endpoints/{id_}` not found.")
