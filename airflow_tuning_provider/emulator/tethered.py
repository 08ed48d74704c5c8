"""Run a Python module as a program that ends with the process that started it.

``python -m airflow_tuning_provider.emulator.tethered MODULE [ARGUMENT ...]``: standard input is the tether.
When the other end of the pipe closes, for whatever reason (even ``kill -9``), this process ends too, so no
server outlives its owner.
"""

from __future__ import annotations

import os
import runpy
import sys
import threading


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    module, *arguments = sys.argv[1:]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
