"""Read and check a training or validation data set, line by line.

A data set that is not right fails its job, as it does at Google: ``DatasetError`` carries the
google.rpc.Status that the job then shows.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from airflow_tuning_provider.emulator.errors import CODES
from airflow_tuning_provider.emulator.schema import camel_case
from airflow_tuning_provider.emulator.tokens import (
    content_characters,
    content_tokens,
    parts_of,
    text_of,
)

MAX_FILE_BYTES = 1024**3
MAX_VALIDATION_EXAMPLES = 5000
MAX_EXAMPLE_TOKENS = 131_072
# What a tuned endpoint can answer from, and what the statistics show of the data.
MAX_PAIRS = 5000
SHOWN_EXAMPLES = 3
_SHOWN_CHARACTERS = 100
_ROLES = ("system", "user", "model")
# Answers of a function come from the user's side.
_USER_ROLES = ("user", "function", "tool")

SUPERVISED = "supervised"
PREFERENCE = "preference"
PROMPTS = "prompts"


class DatasetError(Exception):
    """The data set cannot be used."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.status = {"code": CODES[code][0], "message": message}


@dataclass
class Dataset:
    """What is kept of a data set: numbers per example, a few examples, and the pairs to answer from."""

    kind: str = SUPERVISED
    digest: str = ""
    input_tokens: list[int] = field(default_factory=list)
    output_tokens: list[int] = field(default_factory=list)
    messages: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    score_variances: list[float] = field(default_factory=list)
    characters: int = 0
    truncated: list[int] = field(default_factory=list)
    shown: list[dict[str, Any]] = field(default_factory=list)
    pairs: list[tuple[str, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.input_tokens)


def is_emulated() -> bool:
    """Tell whether data sets come from an emulator of Cloud Storage, and not with anybody's credentials."""
    return bool(os.environ.get("STORAGE_EMULATOR_HOST"))


def can_read() -> bool:
    """Tell, without asking the network, whether data sets in Cloud Storage can be read."""
    if is_emulated():
        return True
    explicit = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    if explicit:
        return Path(explicit).is_file()
    config = os.environ.get("CLOUDSDK_CONFIG")
    if os.name == "nt":
        directory = Path(config) if config else Path(os.environ.get("APPDATA", "")) / "gcloud"
    else:
        directory = Path(config) if config else Path.home() / ".config" / "gcloud"
    return (directory / "application_default_credentials.json").is_file()


def read(uri: str, kind: str, *, keep_pairs: bool = True) -> Dataset:
    """Read and check a data set in Cloud Storage. Blocks: call it in a thread."""
    with tempfile.SpooledTemporaryFile(max_size=32 * 1024**2) as file:
        _download(uri, file)
        file.seek(0)
        return check_lines(file, kind, keep_pairs=keep_pairs)


def _download(uri: str, file: IO[bytes]) -> None:
    # Imported here: it is slow, and not needed by those who do not read data sets.
    from google.api_core import exceptions as google_exceptions
    from google.auth import exceptions as auth_exceptions
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage
    from google.cloud.storage.retry import DEFAULT_RETRY
    from requests import exceptions as requests_exceptions

    bucket, _, name = uri.removeprefix("gs://").partition("/")
    try:
        if is_emulated():
            client = storage.Client(project="emulator", credentials=AnonymousCredentials())
        else:
            client = storage.Client()
        retry = DEFAULT_RETRY.with_timeout(20)
        blob = client.bucket(bucket).get_blob(name, timeout=20, retry=retry)
        if blob is None:
            raise DatasetError("NOT_FOUND", f"No such object: {bucket}/{name}")
        if blob.size and blob.size > MAX_FILE_BYTES:
            raise DatasetError("INVALID_ARGUMENT", f"The dataset file {uri} is larger than 1 GB.")
        blob.download_to_file(file, timeout=60, retry=retry)
    except google_exceptions.NotFound as e:
        raise DatasetError("NOT_FOUND", f"No such object: {bucket}/{name}") from e
    except (google_exceptions.Forbidden, google_exceptions.Unauthorized) as e:
        raise DatasetError(
            "PERMISSION_DENIED",
            "The tuning service account does not have storage.objects.get access to the Google Cloud "
            f"Storage object {uri}.",
        ) from e
    except (
        google_exceptions.GoogleAPIError,
        auth_exceptions.GoogleAuthError,
        requests_exceptions.RequestException,
        OSError,
    ) as e:
        raise DatasetError("UNAVAILABLE", f"The dataset {uri} could not be read: {e}") from e


def check_lines(lines: Iterable[bytes], kind: str, *, keep_pairs: bool = True) -> Dataset:
    """Check a JSONL data set of a kind; rows count from 0 as Google's messages do."""
    dataset = Dataset(kind)
    digest = hashlib.sha256(kind.encode())
    add = _ADD[kind]
    row = 0
    for line in lines:
        digest.update(line)
        if not line.strip():
            continue
        add(dataset, row, _example(row, line.removeprefix(b"\xef\xbb\xbf") if row == 0 else line), keep_pairs)
        row += 1
    if row == 0:
        raise DatasetError("INVALID_ARGUMENT", "The dataset has no examples.")
    dataset.digest = digest.hexdigest()
    return dataset


def _invalid(row: int, text: str) -> DatasetError:
    return DatasetError("INVALID_ARGUMENT", f"Row: {row}. {text}")


def _example(row: int, line: bytes) -> dict[str, Any]:
    try:
        example = json.loads(line)
    except (ValueError, RecursionError) as e:
        raise _invalid(row, f"Invalid JSON: {e}.") from e
    if not isinstance(example, dict):
        raise _invalid(row, "An example must be a JSON object.")
    example = {camel_case(key): value for key, value in example.items()}
    if not example.get("contents"):
        raise _invalid(row, "Missing required `contents` field.")
    contents = example["contents"]
    if not isinstance(contents, list) or not all(isinstance(c, dict) for c in contents):
        raise _invalid(row, "The `contents` field must be a list of contents.")
    for content in contents:
        _check_content(row, content)
    return example


def _check_content(row: int, content: dict[str, Any]) -> None:
    role = content.get("role", "user")
    if role not in (*_ROLES, *_USER_ROLES):
        raise _invalid(row, f"role must be one of {list(_ROLES)}, got '{role}'.".replace(", '", ",'"))
    if not parts_of(content):
        raise _invalid(row, "Missing required `parts` field.")


def _side(content: dict[str, Any]) -> str:
    role = str(content.get("role", "user"))
    return "user" if role in _USER_ROLES else role


def _turns(row: int, contents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the contents without leading system ones, once their roles prove to alternate."""
    turns = contents
    while turns and _side(turns[0]) == "system":
        turns = turns[1:]
    for i, content in enumerate(turns):
        expected = ("user", "model")[i % 2]
        if _side(content) != expected:
            raise _invalid(
                row,
                "The roles in `contents` must alternate between 'user' and 'model', starting with 'user': "
                f"content {i} has role '{content.get('role', 'user')}', expected '{expected}'.",
            )
    return turns


def _add_supervised(dataset: Dataset, row: int, example: dict[str, Any], keep_pairs: bool) -> None:
    contents = example["contents"]
    turns = _turns(row, contents)
    if len(turns) < 2 or len(turns) % 2:
        raise _invalid(row, "The last content must have role 'model'.")
    answers = turns[1::2]
    system = example.get("systemInstruction")
    outputs = sum(map(content_tokens, answers))
    inputs = sum(map(content_tokens, contents)) - outputs + content_tokens(system)
    _count(dataset, row, inputs, outputs, contents, system)
    if len(dataset.shown) < SHOWN_EXAMPLES * 2:
        dataset.shown.extend(_shortened(content) for content in contents)
    if keep_pairs and len(dataset.pairs) < MAX_PAIRS:
        questions = turns[::2]
        dataset.pairs.extend((text_of(q), text_of(a)) for q, a in zip(questions, answers, strict=True))


def _add_preference(dataset: Dataset, row: int, example: dict[str, Any], keep_pairs: bool) -> None:
    contents = example["contents"]
    turns = _turns(row, contents)
    if len(turns) % 2 == 0:
        raise _invalid(row, "The last content must have role 'user'.")
    completions = example.get("completions")
    if not completions:
        raise _invalid(row, "Missing required `completions` field.")
    if not isinstance(completions, list) or len(completions) < 2:
        raise _invalid(row, "The `completions` field must be a list of at least two completions.")
    scores = [_check_completion(row, completion) for completion in completions]
    mean = sum(scores) / len(scores)
    dataset.scores.extend(scores)
    dataset.score_variances.append(sum((s - mean) ** 2 for s in scores) / len(scores))
    inputs = sum(map(content_tokens, contents)) + content_tokens(example.get("systemInstruction"))
    outputs = sum(content_tokens(c["completion"]) for c in completions)
    _count(dataset, row, inputs, outputs, contents, None)
    if len(dataset.shown) < SHOWN_EXAMPLES:
        shown = [{"score": c["score"], "completion": _shortened(c["completion"])} for c in completions]
        dataset.shown.append({"contents": [_shortened(c) for c in contents], "completions": shown})
    if keep_pairs and len(dataset.pairs) < MAX_PAIRS:
        best = completions[scores.index(max(scores))]["completion"]
        dataset.pairs.append((text_of(turns[-1]), text_of(best)))


def _check_completion(row: int, completion: Any) -> float:
    if not isinstance(completion, dict) or not isinstance(completion.get("completion"), dict):
        raise _invalid(row, "Missing required `completion` field.")
    score = completion.get("score")
    if isinstance(score, bool) or not isinstance(score, (int, float)):
        raise _invalid(row, "Missing required `score` field.")
    _check_content(row, completion["completion"])
    if completion["completion"].get("role", "model") != "model":
        raise _invalid(row, "A completion must have role 'model'.")
    return float(score)


def _add_prompt(dataset: Dataset, row: int, example: dict[str, Any], keep_pairs: bool) -> None:
    contents = example["contents"]
    inputs = sum(content_tokens(c) for c in contents if _side(c) != "model")
    outputs = sum(map(content_tokens, contents)) - inputs
    _count(dataset, row, inputs, outputs, contents, example.get("systemInstruction"))
    if len(dataset.shown) < SHOWN_EXAMPLES * 2:
        dataset.shown.extend(_shortened(content) for content in contents)


def _count(
    dataset: Dataset, row: int, inputs: int, outputs: int, contents: list[dict[str, Any]], system: Any
) -> None:
    if inputs + outputs > MAX_EXAMPLE_TOKENS:
        # Truncated, not refused: what is beyond the limit is neither used nor billed.
        dataset.truncated.append(row)
        inputs = min(inputs, MAX_EXAMPLE_TOKENS)
        outputs = MAX_EXAMPLE_TOKENS - inputs
    dataset.input_tokens.append(inputs)
    dataset.output_tokens.append(outputs)
    dataset.messages.append(len(contents))
    dataset.characters += sum(map(content_characters, contents)) + content_characters(system)


def _shortened(content: dict[str, Any]) -> dict[str, Any]:
    parts = []
    for part in parts_of(content):
        text = part.get("text")
        if isinstance(text, str):
            parts.append(
                {"text": text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."}
            )
    shown: dict[str, Any] = {"role": content.get("role", "user")}
    return shown | ({"parts": parts} if parts else {})


_ADD: dict[str, Callable[[Dataset, int, dict[str, Any], bool], None]] = {
    SUPERVISED: _add_supervised,
    PREFERENCE: _add_preference,
    PROMPTS: _add_prompt,
}


def synthetic(uri: str, kind: str) -> Dataset:
    """Make up a data set for a server that does not read any: always the same for a URI."""
    seed = hashlib.sha256(uri.encode()).digest()
    count = 100 + seed[0]
    dataset = Dataset(kind, "")
    for i in range(count):
        b = seed[i % len(seed)]
        dataset.input_tokens.append(40 + (b * (i + 1)) % 200)
        dataset.output_tokens.append(10 + (b * (i + 3)) % 60)
        dataset.messages.append(2)
        if kind == PREFERENCE:
            dataset.scores.extend((1.0, 0.0))
            dataset.score_variances.append(0.25)
    dataset.characters = 4 * (sum(dataset.input_tokens) + sum(dataset.output_tokens))
    return dataset
