"""Which clusters there can be, and what is said of one that does not answer."""

from __future__ import annotations

import socket
import sys
import time

import pytest

from neuron_opsd.cluster import session
from neuron_opsd.cluster.session import check_address, try_to_join, wait_for
from neuron_opsd.config import ClusterConfig
from neuron_opsd.errors import ConfigError, TryAgainError


@pytest.mark.parametrize("address", ["here", "http://head:6379", "head", "ray://head"])
def test_an_address_that_cannot_be_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="it must be local, auto, HOST:PORT or ray:"):
        check_address(ClusterConfig(address=address))


@pytest.mark.parametrize("address", ["local", "auto", "head:6379", "ray://[::1]:10001"])
def test_these_addresses_can_be(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "find_spec", lambda _: True)
    check_address(ClusterConfig(address=address))


def test_a_client_that_is_not_installed_is_asked_for_early(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'ray\[client\]', or start"):
        check_address(ClusterConfig(address="ray://head:10001"))


def test_a_cluster_without_ray_is_refused_with_advice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'neuron-opsd\[ray\]'"):
        check_address(ClusterConfig(address="local"))


def test_what_listens_and_is_no_cluster_is_not_waited_for_long() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        settings = ClusterConfig(address=f"127.0.0.1:{port}", timeout=3)
        wait_for("127.0.0.1", port, settings)
        with pytest.raises(TryAgainError, match="does not answer as a Ray cluster"):
            try_to_join(settings)


def test_an_address_that_does_not_answer_is_not_waited_for_long() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    start = time.monotonic()
    settings = ClusterConfig(address=f"127.0.0.1:{port}", timeout=1)
    with pytest.raises(TryAgainError, match=r"nothing answers at cluster\.address 127"):
        wait_for("127.0.0.1", port, settings)
    assert time.monotonic() - start < 20
