"""A process that joins a cluster and leaves it again, and can be ended if that hangs.

Ray waits for minutes where something listens that is no cluster, and cannot be stopped.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Join the cluster at the address that is given."""
    import ray

    ray.init(address=sys.argv[1], log_to_driver=False, configure_logging=False)


if __name__ == "__main__":
    main()
