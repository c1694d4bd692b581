"""Joining a Ray cluster, or starting one on this machine.

Only this room imports Ray, and only for a cluster. Ray reports nothing home, shows no
dashboard and prints nothing. Lasting faults raise a `ConfigError`, temporary ones a
`TryAgainError`.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from neuron_opsd.cluster import joining_worker
from neuron_opsd.config import ClusterConfig
from neuron_opsd.documents import first_line
from neuron_opsd.errors import ConfigError, TryAgainError
from neuron_opsd.processes import workers
from neuron_opsd.processes.stopping import SIGNALS

LOCAL: Final = "local"
"""Address that starts Ray on this machine."""
AUTO: Final = "auto"
"""Address of the cluster this machine belongs to."""
CLIENT: Final = "ray://"
"""Prefix of a cluster's address, from a machine outside it."""
PLACE: Final = re.compile(
    r"(ray://)?(?P<host>[^\s/:]+|\[[0-9a-fA-F:.]+\]):(?P<port>\d+)"
)
ADDRESSES: Final = f"{LOCAL}, {AUTO}, HOST:PORT or ray://HOST:PORT"

STORE_BYTES: Final = 128 << 20
"""Shared memory; the rest spills to disk."""
SILENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SCHEDULER_EVENTS": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    # Silences a warning about a later version's default.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Workers do this command's work, so they keep its priority.
    "RAY_worker_niceness": "0",
}
"""No reports to Ray's makers, no output, no lower priority."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one worker takes of a cluster."""

    gpus: float
    cpus: int

    def __str__(self) -> str:
        cpus = f"{self.cpus} processor{'s' if self.cpus > 1 else ''}"
        return f"{self.gpus:g} GPU and {cpus}" if self.gpus else cpus


def load_ray() -> Any:
    """Import Ray."""
    for name, value in SILENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ConfigError(
            "a cluster was asked for, but Ray is not installed; install it with pip "
            "install 'neuron-opsd[ray]', or leave --ray and cluster.address out"
        ) from error
    logging.getLogger("ray").setLevel(logging.ERROR)
    return ray


def check_address(settings: ClusterConfig) -> None:
    """Refuse an address that cannot be a cluster's."""
    address = settings.address
    if address not in (LOCAL, AUTO) and not PLACE.fullmatch(address):
        raise ConfigError(f"cluster.address is {address!r}, but it must be {ADDRESSES}")
    load_ray()
    if address.startswith(CLIENT) and find_spec("grpc") is None:
        raise ConfigError(
            f"cluster.address is {address}, which needs Ray's client, and that is not "
            "installed; install it with pip install 'ray[client]', or start the "
            "command on a machine of the cluster and give HOST:PORT"
        )


@contextmanager
def connected(settings: ClusterConfig) -> Iterator[None]:
    """Connect to a cluster, unless connected already."""
    check_address(settings)
    found = PLACE.fullmatch(settings.address)
    ray = load_ray()
    if ray.is_initialized():
        yield
        return
    if found:
        wait_for(found["host"].strip("[]"), int(found["port"]), settings)
        try_to_join(settings)
    short = "/tmp" if Path("/tmp").is_dir() else None  # leaves room for Ray's names
    with TemporaryDirectory(
        prefix="opsd-ray-", dir=short, ignore_cleanup_errors=True
    ) as folder:
        try:
            with own_signals():
                join(ray, settings, folder)
            yield
        finally:
            ray.shutdown()


def join(ray: Any, settings: ClusterConfig, folder: str) -> None:
    """Join the cluster, or start one with files in a folder."""
    more: dict[str, Any] = {}
    if settings.address == LOCAL:
        # A private key, in no file, so that no other user can submit work.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        more = {
            "include_dashboard": False,
            "object_store_memory": STORE_BYTES,
            "_temp_dir": folder,
        }
    try:
        ray.init(
            address=settings.address,
            log_to_driver=False,
            configure_logging=False,
            logging_level=logging.ERROR,
            **more,
        )
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise TryAgainError(
            f"no Ray cluster can be reached at {settings.address}: "
            f"{first_line(error)}; start one (ray start --head), or name another "
            "with --ray"
        ) from error
    keep_to_itself()


def keep_to_itself() -> None:
    """Keep Ray from printing how workers ended on stdout, which is the caller's.

    No setting turns this off; `log_to_driver` covers only workers' output.
    """
    internals: Any = import_module("ray._private.worker")
    internals.print_to_stdstream = say_nothing


def say_nothing(data: object, ignore_prefix: object = None) -> None:
    """Replace a printing function and do nothing."""
    del data, ignore_prefix


def try_to_join(settings: ClusterConfig) -> None:
    """Refuse, in bounded time, an address that is no cluster."""
    with suppress(OSError):  # if no process can be started, joining here will fail
        try:
            subprocess.run(
                **workers.command(joining_worker, None, settings.address),
                timeout=settings.timeout,
                capture_output=True,
                check=False,  # joining here reports what is wrong
            )
        except subprocess.TimeoutExpired as error:
            raise TryAgainError(
                f"what listens at cluster.address {settings.address} does not answer "
                f"as a Ray cluster within {settings.timeout} s; name the port of the "
                "head (6379) or of its client server (ray://, 10001) with --ray"
            ) from error


def wait_for(host: str, port: int, settings: ClusterConfig) -> None:
    """Wait for a listener, since Ray would wait for ever."""
    end = time.monotonic() + settings.timeout
    while True:
        try:
            socket.create_connection((host, port), timeout=settings.timeout).close()
        except OSError as error:
            if time.monotonic() >= end:
                raise TryAgainError(
                    f"nothing answers at cluster.address {settings.address} within "
                    f"{settings.timeout} s ({error.strerror or error}); start the "
                    "cluster (ray start --head), or name another with --ray"
                ) from error
            time.sleep(0.2)
        else:
            return


@contextmanager
def own_signals() -> Iterator[None]:
    """Restore this process's signal handlers at the end."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def share_of(settings: ClusterConfig, threads: int) -> Share:
    """Return a worker's resources; `threads` are this process's."""
    all_gpus, all_cpus = cluster_size()
    gpus = settings.gpus_per_worker
    if gpus is None:
        gpus = 1.0 if all_gpus else 0.0
    share = Share(gpus, settings.cpus_per_worker or (1 if gpus else threads))
    lacks = all_gpus < share.gpus or all_cpus < share.cpus
    if settings.address == LOCAL and lacks:
        raise ConfigError(
            f"cluster.address is local and each worker needs {share}, but this machine "
            f"has {cluster_text()}; lower cluster.gpus_per_worker or "
            "cluster.cpus_per_worker (or OMP_NUM_THREADS, if that is 0)"
        )
    return share


def num_workers(settings: ClusterConfig, share: Share) -> int:
    """Return how many workers to request, at least one."""
    gpus, cpus = cluster_size()
    rooms = [cpus // share.cpus]
    if share.gpus:
        rooms.append(gpus // share.gpus)
    return settings.workers or max(1, int(min(rooms)))


def beside_this() -> dict[str, Any]:
    """Return Ray options to run on this machine, reserving no processor."""
    ray = load_ray()
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    node = ray.get_runtime_context().get_node_id()
    there = NodeAffinitySchedulingStrategy(node, soft=True)
    return {"num_cpus": 0, "scheduling_strategy": there}


def cluster_text() -> str:
    """Describe the cluster's resources."""
    gpus, cpus = cluster_size()
    return f"{gpus:g} GPUs and {cpus:g} processors"


def cluster_size() -> tuple[float, float]:
    """Return the cluster's numbers of GPUs and processors."""
    total = load_ray().cluster_resources()
    return total.get("GPU", 0), total.get("CPU", 0)
