"""The engines that the contract is checked against: a stand-in, and vLLM where it is.

`make test-vllm` runs these tests where it is installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from neuron_opsd.models.vllm.engine import SHARED
from tiny import tiny_model
from vllm_stand_in import Calls, stand_in

NEEDS_VLLM = pytest.mark.skipif(
    find_spec("vllm") is None, reason="vllm is not installed; run make test-vllm"
)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a tiny Llama whose heads are as wide as vLLM's kernels need."""
    folder = tmp_path_factory.mktemp("wide-heads")
    return tiny_model(folder, "llama", chat=False, head_dim=32)


@pytest.fixture(
    scope="module", params=["stand-in", pytest.param("vllm", marks=NEEDS_VLLM)]
)
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give the name of the engine that answers, one for all tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "stand-in":
            stand_in(patch)
        yield request.param
        forget()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    """Give what a stand-in of its own notes."""
    yield stand_in(monkeypatch)
    forget()


def forget() -> None:
    """End the engine of this process, so that the next test starts its own."""
    SHARED.close()
    SHARED.engine = None
