"""Which base models can be tuned, or could be until Google retired them: one dated table.

Sources, read in November 2026: Google's "Model versions and lifecycle" (docs.cloud.google.com, under
gemini-enterprise-agent-platform/models/model-versions) for the dates, "About supervised fine-tuning for Gemini
models" (…/models/gemini-supervised-tuning, and its older copies for retired models) for the adapter sizes.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from datetime import date, datetime, timezone
from typing import Any

from airflow_tuning_provider.emulator.clock import now
from airflow_tuning_provider.emulator.errors import ApiError, invalid_argument, not_found
from airflow_tuning_provider.emulator.names import in_multi_regions, is_multi_region, model_id
from airflow_tuning_provider.emulator.validation import tuning_spec

log = logging.getLogger(__name__)

# What tuning starts from where nothing else is known.
DEFAULT_MODEL = "gemini-3.5-flash"

# Model, released, retired ("-": not yet), adapter sizes, what a rebase moves it to by default ("-": itself).
_TABLE = """
gemini-3.5-flash-lite      2026-07-21  -           1,2,4,8,16  -
gemini-3.5-flash           2026-05-19  -           1,2,4,8,16  -
gemini-3.1-flash-lite      2026-05-07  -           1,2,4,8,16  -
gemini-2.5-pro             2025-06-17  2026-10-20  1,2,4,8     gemini-3.5-flash
gemini-2.5-flash           2025-06-17  2026-10-20  1,2,4,8,16  gemini-3.5-flash
gemini-2.5-flash-lite      2025-07-22  2026-10-20  1,2,4,8,16  gemini-3.1-flash-lite
gemini-2.0-flash           2025-02-05  2026-06-01  1,2,4,8     gemini-3.5-flash
gemini-2.0-flash-001       2025-02-05  2026-06-01  1,2,4,8     gemini-3.5-flash
gemini-2.0-flash-lite      2025-02-25  2026-06-01  1,2,4,8     gemini-3.1-flash-lite
gemini-2.0-flash-lite-001  2025-02-25  2026-06-01  1,2,4,8     gemini-3.1-flash-lite
gemini-1.5-pro-002         2024-09-24  2025-09-24  1,4         gemini-3.5-flash
gemini-1.5-flash-002       2024-09-24  2025-09-24  1,4,8,16    gemini-3.5-flash
gemini-1.0-pro-002         2024-04-09  2025-04-09  1,4,8,16    gemini-3.5-flash
"""
_SIZES = {1: "ONE", 2: "TWO", 4: "FOUR", 8: "EIGHT", 16: "SIXTEEN"}
# Never tunable over this API. Any other name is accepted: Google has new models before this table has.
_NEVER_TUNABLE = re.compile(r"gemini-(1\.|2\.0|pro$|ultra)|text-|chat-|code-|codechat-")
# Answer, and cannot be tuned here. Where an untuned model is asked, any other name is unknown.
_ONLY_ANSWERING = frozenset(
    {
        "gemini-3.1-pro-preview",
        "gemini-3-pro-preview",
        "gemini-3-flash-preview",
        "gemini-3.1-flash-lite-preview",
    }
)
_VERSIONS = "https://cloud.google.com/vertex-ai/generative-ai/docs/learn/model-versions"


@dataclass(frozen=True)
class Model:
    """A base model that can be tuned, from its release to its retirement."""

    name: str
    since: date
    until: date | None
    adapters: frozenset[str]
    rebased_to: str

    def retired(self, today: date) -> bool:
        """Whether Google no longer has it."""
        return self.until is not None and today >= self.until


def _model(line: str) -> Model:
    name, since, until, sizes, rebased_to = line.split()
    return Model(
        name,
        date.fromisoformat(since),
        None if until == "-" else date.fromisoformat(until),
        frozenset(f"ADAPTER_SIZE_{_SIZES[int(size)]}" for size in sizes.split(",")),
        name if rebased_to == "-" else rebased_to,
    )


MODELS = {model.name: model for model in map(_model, _TABLE.strip().splitlines())}


def rebase_target(base_model: str) -> str:
    """Return what a rebase moves a tuned model to where the request names no model."""
    model = MODELS.get(base_model)
    return model.rebased_to if model else base_model


class ModelChecks:
    """What Google says to a model; a retired one is accepted with a warning, or refused as Google does."""

    def __init__(self, retired_models: str) -> None:
        self._refuse_retired = retired_models == "refuse"
        self._warned: set[str] = set()

    def check_tuning(self, base_model: str, job: dict[str, Any]) -> None:
        """Raise Google's 400 for a job whose base model cannot be tuned, or not with its adapter size."""
        model = MODELS.get(base_model)
        if self._is_refused(model) or (model is None and _NEVER_TUNABLE.match(base_model)):
            raise invalid_argument(f"Base model {base_model} is not supported")
        adapter = tuning_spec(job)[1].get("hyperParameters", {}).get("adapterSize")
        if model is not None and adapter is not None and adapter not in model.adapters:
            raise invalid_argument("The adapter size is not supported for this base model.")

    def check_calling(self, base_model: str, project: str, location: str) -> None:
        """Raise Google's 404 for an untuned model that does not answer in a location."""
        name = model_id(base_model)
        elsewhere = in_multi_regions(name) and location != "global" and not is_multi_region(location)
        unknown = name not in MODELS and name not in _ONLY_ANSWERING
        if unknown or elsewhere or self._is_refused(MODELS.get(name)):
            raise _no_model(f"projects/{project}/locations/{location}/publishers/google/models/{name}")

    def _is_refused(self, model: Model | None) -> bool:
        if model is None or not model.retired(datetime.fromtimestamp(now(), timezone.utc).date()):
            return False
        if not self._refuse_retired and model.name not in self._warned:
            self._warned.add(model.name)
            log.warning(
                "Google has retired %s (released on %s) on %s and would refuse it; this server goes on with it. "
                "Start it with --retired-models refuse to have it answer as Google does today.",
                model.name,
                model.since,
                model.until,
            )
        return self._refuse_retired


def _no_model(name: str) -> ApiError:
    return not_found(
        f"Publisher Model `{name}` was not found or your project does not have access to it. Please ensure "
        f"you are using a valid model version. For more information, see: {_VERSIONS}"
    )
