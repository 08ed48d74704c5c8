"""``python -m airflow_tuning_provider.testing._storage_server PORT_FILE``: the process of the storage emulator."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    try:
        from gcp_storage_emulator.server import create_server
    except ImportError:
        sys.exit("it needs the package gcp-storage-emulator: pip install 'airflow-tuning-provider[demo]'")

    server = create_server("127.0.0.1", 0, in_memory=True)  # type: ignore[no-untyped-call]
    server.start()
    target = Path(sys.argv[1])
    new = target.with_suffix(".new")
    new.write_text(str(server._api._httpd.server_address[1]))
    new.replace(target)
    # The server's own end waits for its clients.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.pause()
