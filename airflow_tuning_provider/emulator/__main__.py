"""``python -m airflow_tuning_provider.emulator``."""

from __future__ import annotations

import sys

from airflow_tuning_provider.emulator.cli import main

if __name__ == "__main__":
    sys.exit(main())
