"""``python -m tests.contract live``: ask Google what the tests ask the emulator, and record what it answers.

``python -m tests.contract write`` brings the list of assumptions in docs/emulator.md up to date.

What it spends: at most ``MOST_JOBS`` jobs are created. A job trains on the file that is uploaded, once (one epoch),
and a text has no more tokens than bytes. So bytes of the file x jobs x the price of a token is the most that it can
cost, whatever goes wrong; where that is not below the limit, nothing is begun. Every job is cancelled in the end, also
after Ctrl-C, and those whose creation was not answered are found by their label.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from testbed.services import REPOSITORY
from tests.contract import pages, recording
from tests.contract.expectations import EXPECTATIONS
from tests.contract.session import MOST_JOBS, RUN_LABEL, Session

LIMIT_USD = 2.0
# The dearest that Google ever asked for a million tokens of training (Gemini 2.5 Pro; 3.5 Flash is 10, 3.1
# Flash-Lite 3): https://cloud.google.com/vertex-ai/generative-ai/pricing, "Tuning", read on 2026-09-24.
USD_PER_MILLION_TOKENS = 25.0
EXAMPLES = 20
OBJECT = "airflow-tuning-provider-contract/train.jsonl"
CONNECTION = "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT"


def training_set() -> bytes:
    """Return a small training set, made from the example DAG's messages."""
    lines = (REPOSITORY / "example_dags" / "data" / "support_messages.jsonl").read_text("utf-8").splitlines()
    examples = []
    for row in map(json.loads, lines[:EXAMPLES]):
        turns = [("user", row["message"]), ("model", row["queue"])]
        contents = [{"role": role, "parts": [{"text": text}]} for role, text in turns]
        examples.append(json.dumps({"contents": contents}))
    return ("\n".join(examples) + "\n").encode()


def most_usd(data: bytes) -> float:
    """Return the most that all jobs together can cost."""
    return len(data) * MOST_JOBS * USD_PER_MILLION_TOKENS / 1e6


def upload(session: Session, bucket: str, data: bytes) -> None:
    """Put the training set into the bucket, with the connection's credentials."""
    from google.cloud import storage

    client = storage.Client(session.parent.split("/")[1], credentials=session.hook.credentials)
    client.bucket(bucket).blob(OBJECT).upload_from_string(data, content_type="application/jsonl")


def agreed(arguments: argparse.Namespace, data: bytes) -> bool:
    """Say what will be done and what it costs at most, and ask."""
    where = arguments.endpoint or f"Google, with the connection in {CONNECTION}"
    if not arguments.endpoint and not os.environ.get(CONNECTION):
        where = "Google, with application default credentials"
    print(
        f"This asks {where}\n"
        f"  in project {arguments.project}, {arguments.location}\n"
        f"  and uploads gs://{arguments.bucket}/{OBJECT} ({len(data)} bytes).\n"
        f"It creates at most {MOST_JOBS} tuning jobs of {arguments.model}, one epoch each, and cancels them"
        + (", but for one that runs to its end" if arguments.to_the_end else "")
        + ".\n"
        f"They cost at most US${most_usd(data):.2f}: {len(data)} bytes, of which a token has at least one, x "
        f"{MOST_JOBS} jobs x US${USD_PER_MILLION_TOKENS:.0f} for a million tokens.\n"
        f"What was answered is written, without names of yours, to {arguments.recording}."
    )
    if most_usd(data) >= LIMIT_USD:
        print(f"That is not below US${LIMIT_USD:.2f}: nothing is begun.")
        return False
    print("To go on, enter the project's id: ", end="", flush=True)
    return sys.stdin.readline().strip() == str(arguments.project)


def connect(arguments: argparse.Namespace) -> Session:
    """Return a conversation through an ordinary connection of this provider."""
    from airflow_tuning_provider.hooks.tuning_job import TuningJobHook

    if arguments.endpoint or not os.environ.get(CONNECTION):
        extra = {"api_endpoint": arguments.endpoint} if arguments.endpoint else {}
        token = os.environ.get("CONTRACT_TOKEN")
        os.environ[CONNECTION] = json.dumps(
            {"conn_type": "vertex_ai_tuning", "password": token, "extra": extra}
        )
    hook = TuningJobHook(project_id=arguments.project, location=arguments.location)
    return Session(
        hook,
        f"gs://{arguments.bucket}/{OBJECT}",
        arguments.model,
        pause=arguments.pause,
        patience=arguments.patience,
        to_the_end_seconds=3 * 3600 if arguments.to_the_end else 0,
    )


def live(arguments: argparse.Namespace) -> int:
    """Hold the conversation, record it, and leave nothing running."""
    data = training_set()
    if not agreed(arguments, data):
        print("\nNothing was done.")
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    session = connect(arguments)
    outcomes: dict[str, Any] = {}
    try:
        upload(session, arguments.bucket, data)
        for expectation in EXPECTATIONS:
            said = outcomes[expectation.name] = recording.outcome(expectation, session)
            print(f"{said['outcome']:<9} {expectation.name}" + (f": {said['why']}" if "why" in said else ""))
            sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted")
    finally:
        # A second Ctrl-C must not leave a job behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        left = session.clean_up()
        print(f"{len(session.created)} jobs were created; {len(left)} of them could not be cancelled.")
        for name in left:
            print(f"CANCEL BY HAND: gcloud ai tuning-jobs cancel {name}")
        print(f"Jobs of this run carry the label {RUN_LABEL}={session.run}.")
    recording.write(
        arguments.recording,
        outcomes,
        recording.Redactor(session, arguments.bucket),
        recorded=str(datetime.now(timezone.utc).date()),
        location=arguments.location,
        model=arguments.model,
    )
    print(f"Written to {arguments.recording}: read it, commit it, then run make contract.")
    return 1 if left else 0


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        "python -m tests.contract", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("write", help="bring docs/emulator.md up to date")
    asked = commands.add_parser("live", help="ask Google")
    for name in ("project", "location", "bucket"):
        asked.add_argument(f"--{name}", required=True)
    asked.add_argument("--model", default="gemini-3.1-flash-lite")
    asked.add_argument("--to-the-end", action="store_true", help="let one job run to its end (an hour or so)")
    asked.add_argument("--endpoint", help="ask another server; its token is taken from CONTRACT_TOKEN")
    asked.add_argument("--recording", type=Path, default=recording.GOOGLE)
    asked.add_argument("--pause", type=float, default=5.0, help="seconds between two looks")
    asked.add_argument("--patience", type=float, default=900.0, help="seconds to wait for a state")
    arguments = parser.parse_args()
    if arguments.command == "write":
        pages.write()
        return 0
    return live(arguments)


if __name__ == "__main__":
    sys.exit(main())
