"""What a server answered, in a form that may be committed, and what of it another server has to agree with."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.contract.expectations import EXPECTATIONS, Expectation
from tests.contract.session import RUN_LABEL, BudgetError, Json, NotSeen, Session

GOOGLE = Path(__file__).parent / "recordings" / "google.json"
"""What Google answered. It is not there until somebody has run ``make contract-live`` and committed it."""

HOLDS, DIFFERS, NOT_SEEN = "holds", "differs", "not seen"


def outcome(expectation: Expectation, session: Session) -> Json:
    """Ask a server about one expectation, and return the outcome with all that was said."""
    with session.about():
        why = ""
        try:
            expectation.check(session)
            result = HOLDS
        except NotSeen as error:
            result, why = NOT_SEEN, str(error)
        except BudgetError as error:
            result, why = NOT_SEEN, str(error)
        except (AssertionError, KeyError, TypeError, IndexError, ValueError, OSError) as error:
            result, why = DIFFERS, f"{type(error).__name__}: {error}"[:1000]
        return {
            "outcome": result,
            **({"why": why} if why else {}),
            "facts": dict(session.facts),
            "measured": dict(session.measured),
            "exchanges": list(session.exchanges),
        }


def load(path: Path = GOOGLE) -> dict[str, Json]:
    """Return a recording's outcomes by the expectation's name; empty where there is no recording."""
    if not path.exists():
        return {}
    found: dict[str, Json] = json.loads(path.read_text())["expectations"]
    return found


def recorded(path: Path = GOOGLE) -> set[str]:
    """Return the names of the expectations that a recording says something about."""
    return {name for name, said in load(path).items() if said["outcome"] != NOT_SEEN}


def disagreement(said: Json, by_emulator: Json) -> str | None:
    """Return what the emulator does otherwise than a recording has it, or None."""
    if said["outcome"] == NOT_SEEN:
        return None
    if said["outcome"] == DIFFERS:
        return f"the server that was recorded does not meet it: {said.get('why')}"
    if by_emulator["facts"] == said["facts"]:
        return None
    return f"recorded: {said['facts']}; the emulator: {by_emulator['facts']}"


class Redactor:
    """Takes out of what was said whatever tells whose project it was.

    :param session: the conversation that was held.
    :param bucket: the bucket of its data.
    """

    def __init__(self, session: Session, bucket: str) -> None:
        names = [name.split("/") for name in session.created]
        numbers = {name[1] for name in names}
        project = session.parent.split("/")[1]
        self._run = session.run
        self._words = {project: "my-project", bucket: "my-bucket", session.run: "run-0"}
        self._words |= dict.fromkeys(numbers, "123456789012")
        self._ids: dict[str, str] = {}

    def __call__(self, said: Any) -> Any:
        """Return it without names, numbers, addresses and other people's jobs."""
        if isinstance(said, dict):
            if isinstance(said.get("tuningJobs"), list):
                ours = [job for job in said["tuningJobs"] if self._is_ours(job)]
                left_out = len(said["tuningJobs"]) - len(ours)
                said = {**said, "tuningJobs": ours} | ({"othersLeftOut": left_out} if left_out else {})
            return {
                self._text(key): "…" if key in ("nextPageToken", "pageToken") else self(value)
                for key, value in said.items()
            }
        if isinstance(said, list):
            return [self(item) for item in said]
        return self._text(said) if isinstance(said, str) else said

    def _is_ours(self, job: Json) -> bool:
        labels = job.get("labels")
        # A mask may have left the labels out, and everything that tells much with them.
        return (
            labels.get(RUN_LABEL) == self._run if isinstance(labels, dict) else set(job) <= {"name", "state"}
        )

    def _text(self, text: str) -> str:
        for word in sorted(self._words, key=len, reverse=True):
            text = text.replace(word, self._words[word])
        text = re.sub(r"[\w.+-]+@[\w-]+(\.[\w-]+)+", "someone@example.com", text)
        text = re.sub(
            r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}\b", "00000000-0000-0000-0000-000000000000", text
        )
        return re.sub(r"\b[1-9][0-9]{12,20}\b", self._id, text)

    def _id(self, found: re.Match[str]) -> str:
        return self._ids.setdefault(found[0], f"{10**18 + len(self._ids)}")


def write(path: Path, outcomes: dict[str, Json], redact: Redactor, **circumstances: str) -> None:
    """Write a recording, redacted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    in_order = {e.name: redact(outcomes[e.name]) for e in EXPECTATIONS if e.name in outcomes}
    text = json.dumps({**circumstances, "expectations": in_order}, indent=1, ensure_ascii=False)
    path.write_text(text + "\n")
