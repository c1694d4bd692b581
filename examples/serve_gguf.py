"""Serve a GGUF file on this machine as an OpenAI-compatible API, with llama.cpp.

    pip install xllamacpp
    python examples/serve_gguf.py model.gguf --port 8080

`llama-server -m model.gguf --port 8080` does the same where llama.cpp is installed.
"""

from __future__ import annotations

import argparse
import threading
from importlib import import_module
from pathlib import Path
from typing import Any


def serve(gguf: Path, port: int, slots: int) -> Any:
    """Return a server that listens on the loopback address."""
    llama: Any = import_module("xllamacpp")
    wanted = llama.CommonParams()
    wanted.model.path = str(gguf)
    wanted.hostnames = ["127.0.0.1"]
    wanted.port = port
    wanted.n_parallel = slots
    wanted.verbosity = -1
    return llama.Server(wanted)


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--slots", type=int, default=4, help="answers at a time")
    given = parser.parse_args()
    server = serve(given.gguf, given.port, given.slots)
    print(f"serving {given.gguf} at {server.listening_address}/v1", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
