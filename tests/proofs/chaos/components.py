"""``testbed.components`` for a stack whose killed components leave behind what they leave behind.

After SIGKILL of a scheduler its LocalExecutor workers and their tasks go on. Here they may, until the end.
"""

from __future__ import annotations

import contextlib
import os
import sys

import psutil

from testbed import components

WARM_MODULES = (
    "google.auth.transport.requests",
    "airflow_tuning_provider.hooks.adapter",
    "airflow_tuning_provider.hooks.tuning_job",
    "tests.proofs.chaos.instruments",
)


class LeavingForker(components.Forker):
    """Kills what a killed component has left only when everything is stopped."""

    def __init__(self, answers: int) -> None:
        super().__init__(answers)
        self.left: list[psutil.Process] = []

    def reap(self) -> None:
        """Notice components that have ended, and remember what they left."""
        for name, pid in list(self.pids.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self.pids[name]
                self.left += _session(pid)
                self.tell(event="ended", name=name, pid=pid, status=os.waitstatus_to_exitcode(status))

    def stop(self, grace: float) -> None:
        """End all components, and whatever any of them has left."""
        super().stop(grace)
        for process in self.left:
            with contextlib.suppress(psutil.Error):
                for one in [*process.children(recursive=True), process]:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        one.kill()


def _session(leader: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError):
            if os.getsid(process.pid) == leader:
                found.append(process)
    return found


if __name__ == "__main__":
    components.Forker = LeavingForker  # type: ignore[misc]
    components.WARM_MODULES += WARM_MODULES
    components.main(int(sys.argv[1]))
