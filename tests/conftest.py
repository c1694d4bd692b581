"""What all tests share: one thread, no network, repeatable properties, tiny models."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Idle OpenMP threads that spin would slow down the other workers of `pytest -n`.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest
import torch

from neuron_opsd.cli.terminal import Terminal
from printed import checked
from tiny import pickle_only_model, tiny_model

if TYPE_CHECKING:
    from tiny_runs import FinishedRun

torch.set_num_threads(1)

# Torch's first call is slow, so a deadline would fail at random.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis.settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs an accelerator where there is none, and say so."""
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no CUDA device here")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what tests convert out of the user's own cache."""
    os.environ["NEURON_OPSD_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def printed_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold whatever a command prints with `--json` against its schema."""
    if find_spec("jsonschema"):
        monkeypatch.setattr(Terminal, "show_json", checked(Terminal.show_json))


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a Llama with tied embeddings, chat template and pad = eos."""
    return tiny_model(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="session")
def tiny_llama_plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a Llama without chat template, with a first token and no padding token."""
    return tiny_model(tmp_path_factory.mktemp("llama-plain"), "llama", chat=False)


@pytest.fixture(scope="session")
def tiny_qwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a Qwen2 with tied embeddings and chat template."""
    return tiny_model(tmp_path_factory.mktemp("qwen2"), "qwen2")


@pytest.fixture(scope="session")
def tiny_qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a Qwen3 with an unembedding of its own and chat template."""
    return tiny_model(tmp_path_factory.mktemp("qwen3"), "qwen3")


@pytest.fixture(scope="session")
def tiny_mistral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a Mistral with an unembedding of its own and chat template."""
    return tiny_model(tmp_path_factory.mktemp("mistral"), "mistral")


@pytest.fixture(scope="session")
def tiny_gemma3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a Gemma 3 (text) with tied embeddings and chat template."""
    return tiny_model(tmp_path_factory.mktemp("gemma3"), "gemma3")


@pytest.fixture(scope="session")
def tiny_gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a GPT-2, whose MLPs are not gated."""
    return tiny_model(tmp_path_factory.mktemp("gpt2"), "gpt2")


@pytest.fixture(scope="session")
def pickle_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder whose weights are in pickle form alone."""
    return pickle_only_model(tmp_path_factory.mktemp("pickle"))


@pytest.fixture(scope="session")
def finished_run(
    tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory
) -> FinishedRun:
    """Give a finished run with all controls; tests must leave it as it is."""
    # Imported late: many files of tests never need the whole pipeline.
    from tiny_runs import tiny_config, tiny_request, tiny_run

    request = tiny_request(tmp_path_factory.mktemp("finished"))
    return tiny_run(request, tiny_config(tiny_llama, "evaluation.form_only=true"))
