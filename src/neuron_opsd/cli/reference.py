"""The page of the documentation that lists every command and flag."""

from __future__ import annotations

from neuron_opsd.cli.app import build_app

HEAD = """\
<!-- Written by `make docs` from src/neuron_opsd/cli; do not edit. -->

"""

FOOT = """
## Exit status

| status | meaning |
|---|---|
| 0 | done |
| 1 | a fault of ours, with a traceback: tell us |
| 2 | a mistake in a flag, a setting, a file or a model; the message explains it |
| 75 | try again: disk or memory is full, the network is away, the folder is in use |
| 129, 130, 138, 143 | stopped by SIGHUP, Ctrl-C, SIGUSR1 or SIGTERM; the same \
command resumes. In training the current step is finished and stored first; \
a second signal ends the process at once, and loses no more than a power cut would; \
what arrives within a third of a second of the first is the same one |
| 141 | the reader of the output is gone |

## Environment

| variable | meaning |
|---|---|
| `NEURON_OPSD_CACHE` | where fetched files and models converted from GGUF are stored; \
else `neuron-opsd` under `XDG_CACHE_HOME`, else `~/.cache/neuron-opsd` |
| `NEURON_OPSD_DEBUG` | `1` shows the traceback of an error |
| `NO_COLOR` | any value turns colours off |
| `HF_HOME`, `HF_TOKEN` | where the hub's files are; the token for gated models |
"""


def commands_page() -> str:
    """Return the reference of all commands as Markdown, from the parser itself."""
    title, _, body = build_app().generate_docs().partition("\n")
    return f"{title}\n\n{HEAD}{body.strip()}\n{FOOT}"
