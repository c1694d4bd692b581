"""A process that joins and leaves a cluster, and can be killed if it hangs.

At an address that is no cluster, Ray waits for minutes and cannot be interrupted.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Join the cluster at the given address."""
    import ray

    ray.init(address=sys.argv[1], log_to_driver=False, configure_logging=False)


if __name__ == "__main__":
    main()
