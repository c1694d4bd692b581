"""A Ray cluster on this machine that the tests of a session share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import places

pytest.importorskip("ray", reason="Ray is not installed")

from neuron_opsd.cluster.session import connected
from neuron_opsd.config import ClusterConfig


@pytest.fixture(scope="session")
def cluster() -> Iterator[ClusterConfig]:
    """Give the settings of two workers of a cluster that runs."""
    paths = [str(places.ROOT / "src"), str(places.ROOT / "tests" / "support")]
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, before])
    try:
        settings = ClusterConfig(address="local", workers=2, timeout=240)
        with connected(settings):
            yield settings
    finally:
        os.environ["PYTHONPATH"] = before
