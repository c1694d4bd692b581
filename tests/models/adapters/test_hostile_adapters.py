"""An adapter that attacks whoever merges it is refused in one line, or used whole."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path

import pytest

from hostile_adapters import ADAPTERS, UNHEARD
from loaded import learning, loaded
from neuron_opsd.errors import ModelError
from neuron_opsd.models.adapters.settings import matches_in_time

MOST_PROCESSOR = 4.0
"""Seconds of one refusal, its base loaded, with room for a machine at other work."""

QUICK = (
    "unknown kind",
    "settings are deep",
    "target that backtracks",
    "a million targets",
    "enormous rank",
    "scale that is none",
    "enormous layers",
    "own code",
    "weights of a long header",
    "weight is missing",
    "weight of another shape",
    "weight is not a number",
)
"""Those that the suite tries."""


@pytest.fixture(scope="module")
def trained(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a good adapter."""
    folder = tmp_path_factory.mktemp("trained") / "adapter"
    learning(tiny_llama).save_adapter(folder)
    return folder


def spent() -> float:
    """Return the seconds of processor time of this process and those it waited for."""
    usages = [
        resource.getrusage(who)
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.long)
        for name in ADAPTERS
    ],
)
def test_a_hostile_adapter_is_refused_soon_or_used_whole(
    name: str, tiny_llama: Path, trained: Path, tmp_path: Path
) -> None:
    adapter = Path(shutil.copytree(trained, tmp_path / "adapter"))
    ADAPTERS[name](adapter)
    before = spent()
    said = ""
    try:
        loaded(tiny_llama, adapter)
    except ModelError as error:
        said = str(error)
    assert spent() - before < MOST_PROCESSOR
    assert "\n" not in said
    assert len(said) < 1000
    assert bool(said) == (name not in UNHEARD), said


def test_patterns_of_usual_adapters_match_in_time() -> None:
    names = [f"model.layers.{n}.self_attn.q_proj" for n in range(99)]
    usual = [r".*\.(q|k|v|o)_proj", r"^(?!.*visual).*(?:gate|up)_proj$"]
    assert matches_in_time(usual, names)
    assert not matches_in_time(["([a-z._0-9]+)+$!"], names)
