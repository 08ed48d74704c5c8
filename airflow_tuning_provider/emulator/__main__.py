"""``python -m airflow_tuning_provider.emulator``."""

from __future__ import annotations

import sys

try:
    from airflow_tuning_provider.emulator.cli import main
except ModuleNotFoundError as e:
    if e.name not in ("fastapi", "starlette", "uvicorn"):
        raise
    sys.exit(f"The emulator needs {e.name}: pip install 'airflow-tuning-provider[emulator]'")

if __name__ == "__main__":
    sys.exit(main())
