"""The command that shows a run in a browser while it works: watch."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from neuron_opsd.cli import options
from neuron_opsd.cli.exit_statuses import DONE

PORT: Final = 8765


def watch(
    run: Path,
    /,
    *,
    port: int = PORT,
    quiet: options.Flag = False,
) -> int:
    """Show in a browser how far a run or a comparison is, while it works.

    The page is read from the folder's files at every look and disturbs nothing. It is
    served to this machine alone, until Ctrl-C. On another machine, pass the port on:
    ssh -L 8765:127.0.0.1:8765 MACHINE.

    Args:
        run: Folder of the run or the comparison.
        port: Port on 127.0.0.1; 0 takes a free one.
        quiet: Say nothing but the address.
    """
    with options.opened(options.Output(quiet=quiet)) as terminal:
        from neuron_opsd.live import listening

        with listening(run, port) as server:
            terminal.show(server.address)
            terminal.note("open this address in a browser; Ctrl-C ends it")
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                return DONE
    return DONE
