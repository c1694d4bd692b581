"""Publishing a run: a stand-in hub gets what was shown, and nothing that is private."""

from __future__ import annotations

import getpass
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from safetensors.torch import load_file, save_file

import neuron_opsd as no
import places
from hub_stand_in import Hub, running_hub
from neuron_opsd.errors import ConfigError
from neuron_opsd.exporting.privacy import findings, names_here, refuse_private
from tiny_runs import FinishedRun, tiny_config, tiny_request, tiny_run

BASE = "org/tiny-llama"
GIVEN = ("--base-model", BASE, "--license", "mit", "--pool-dataset", "org/pool")


@pytest.fixture
def hub() -> Iterator[Hub]:
    """Give a hub on this machine."""
    with running_hub() as found:
        yield found


def push(
    run: Path, hub: Hub, *flags: str, more: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, as the library reads its address once.

    The token is one that no hub gave.
    """
    own = {"HF_ENDPOINT": hub.address, "HF_TOKEN": "hf_stand_in", "HOME": os.devnull}
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HF_")
        and name != "TRANSFORMERS_OFFLINE"
        and "proxy" not in name.lower()
    } | (more or {})
    words = ["push", str(run), "alice/better", *flags]
    return subprocess.run(
        [sys.executable, "-m", "neuron_opsd", *words],
        env=kept | own | {"PYTHONPATH": str(places.SOURCES)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_dry_run_shows_all_and_sends_nothing(
    finished_run: FinishedRun, hub: Hub
) -> None:
    done = push(finished_run.folder, hub, *GIVEN, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert hub.requests == []
    assert set(said["files"]) == {
        *("README.md", "adapter_config.json", "adapter_model.safetensors"),
        "evaluation.json",
    }
    assert said["commit"] is None
    card: Any = ModelCard(said["card"]).data
    assert (card.base_model, card.license, card.datasets) == (BASE, "mit", ["org/pool"])


def test_what_was_shown_is_sent_in_one_commit(
    finished_run: FinishedRun, hub: Hub
) -> None:
    run = finished_run.folder
    flags = (*GIVEN, "--benchmark", "parity=org/parity:main:test#parity_v1")
    shown = json.loads(push(run, hub, *flags, "--dry-run", "--json").stdout)
    done = push(run, hub, *flags, "--private", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["commit"] == f"{hub.address}/alice/better/commit/abc"
    assert {name: len(data) for name, data in hub.files.items()} == shown["files"]
    asked = hub.created[0]  # older versions of huggingface_hub say "private": true
    assert hub.commits == 1
    assert asked.get("visibility") == "private" or asked["private"] is True
    weights = run / "adapter" / "adapter_model.safetensors"
    assert hub.files["adapter_model.safetensors"] == weights.read_bytes()
    settings = json.loads(hub.files["adapter_config.json"])
    assert settings["base_model_name_or_path"] == BASE
    own = json.loads((run / "adapter" / "adapter_config.json").read_text("utf-8"))
    assert {n: v for n, v in own.items() if settings[n] != v}.keys() <= {
        *("base_model_name_or_path", "revision"),
    }
    (entry,) = parse_eval_result_entries(
        yaml.safe_load(hub.files[".eval_results/parity.yaml"])
    )
    after = finished_run.data.tests[0].after.metrics["avg_at_k"]
    assert (entry.dataset_id, entry.task_id) == ("org/parity", "parity_v1")
    assert entry.value == pytest.approx(100 * after, abs=0.01)
    sent = b"".join(hub.files.values())
    for private in (str(run), finished_run.config.model.name, str(Path.home())):
        assert private.encode() not in sent


def test_a_repository_that_exists_is_left_alone_unless_told(
    finished_run: FinishedRun, hub: Hub
) -> None:
    hub.repositories.add("alice/better")
    done = push(finished_run.folder, hub, *GIVEN)
    assert (done.returncode, hub.commits) == (2, 0)
    assert "alice/better exists; give --update" in done.stderr
    assert push(finished_run.folder, hub, *GIVEN, "--update").returncode == 0
    assert hub.commits == 1


@pytest.mark.parametrize(("status", "exits"), [(401, 2), (403, 2), (422, 2)])
def test_a_hub_that_refuses_is_told_in_a_line(
    finished_run: FinishedRun, hub: Hub, status: int, exits: int
) -> None:
    hub.status = status
    done = push(finished_run.folder, hub, *GIVEN)
    assert done.returncode == exits
    assert len(done.stderr.strip().splitlines()) == 1
    assert str(status) in done.stderr


def test_a_library_kept_offline_is_told_how_to_go_online(
    finished_run: FinishedRun, hub: Hub
) -> None:
    done = push(finished_run.folder, hub, *GIVEN, more={"TRANSFORMERS_OFFLINE": "1"})
    assert (done.returncode, hub.requests) == (2, [])
    assert "unset both" in done.stderr


def test_a_hub_out_of_reach_may_be_tried_again(finished_run: FinishedRun) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    done = push(finished_run.folder, Hub(f"http://127.0.0.1:{port}"), *GIVEN)
    assert done.returncode == 75
    assert "the hub cannot be reached" in done.stderr


def test_a_base_in_a_folder_must_be_named(finished_run: FinishedRun) -> None:
    with pytest.raises(ConfigError, match="say with --base-model OWNER/NAME"):
        no.prepare_push(finished_run.folder, "alice/better")


@pytest.mark.parametrize("repo", ["better", "a/b/c", "a/../b", "a b/c", ""])
def test_only_ids_of_the_hub_name_a_repository(
    finished_run: FinishedRun, repo: str
) -> None:
    with pytest.raises(ConfigError, match="cannot name the repository on the hub"):
        no.prepare_push(finished_run.folder, repo, base_model=BASE)


def test_a_benchmark_must_be_a_test_of_the_run(finished_run: FinishedRun) -> None:
    with pytest.raises(ConfigError, match="test sets are parity, sums"):
        no.prepare_push(
            finished_run.folder,
            "alice/better",
            base_model=BASE,
            benchmarks={"exam": "org/exam#x"},
        )


def test_a_model_trained_in_full_goes_with_its_tokenizer(
    tiny_qwen3: Path, tmp_path: Path
) -> None:
    config = tiny_config(tiny_qwen3, "distill.tuning=full", "distill.steps=1")
    run = tiny_run(tiny_request(tmp_path), config).folder
    found = no.prepare_push(run, "alice/better", base_model=BASE)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= found.files.keys()
    assert 'AutoModelForCausalLM.from_pretrained("alice/better")' in found.card


PRIVATE: dict[str, str] = {
    "home": "loaded from /home/alice/models/base",
    "mac": 'see "/Users/bob/run"',
    "tilde": "kept in ~/runs/first",
    "windows": r"C:\Users\carol\model",
    "escaped": '"C:\\\\Users\\\\carol"',
    "address": "file:///srv/share/model",
    "mail": "ask dave@example.org",
    "token": "hf_abcdefghijklmnopqrstuvwx",
}


@pytest.mark.parametrize("name", PRIVATE)
def test_what_is_private_anywhere_is_found(name: str) -> None:
    found = list(findings({"a.json": f"x\n{PRIVATE[name]}\n".encode()}, {}))
    assert [(one.file, one.line) for one in found] == [("a.json", 2)]
    assert "mnopqrst" not in str(found[0])


PUBLIC = (
    "https://huggingface.co/docs/hub/eval-results",
    "and/or, before/after, 1/2/3, 24 km/h",
    "base org/tiny-llama, dataset org/pool:main:test",
    "torch 2.13.0+cpu; a 95 % interval (+24.4 to +31.2)",
    "$$a/b$$ **/** `</s>` <|im_end|>",
)


@pytest.mark.parametrize("line", PUBLIC)
def test_what_is_public_passes(line: str) -> None:
    assert list(findings({"README.md": line.encode()}, {})) == []


def test_names_of_this_machine_are_found_as_whole_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "erika")
    monkeypatch.setattr(socket, "gethostname", lambda: "gpu-17.lab.example")
    monkeypatch.setenv("USER", "root")
    names = names_here()
    assert "root" not in names
    text = b"made by erika on gpu-17\nAmerika is large\n"
    found = list(findings({"README.md": text}, names))
    assert [(one.line, one.text) for one in found] == [(1, "erika"), (1, "gpu-17")]
    assert list(findings({"README.md": text}, names, ("erika", "gpu-17"))) == []


def test_a_test_set_named_after_a_person_is_not_published(
    finished_run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "parity")
    with pytest.raises(ConfigError, match=r"README.md, line \d+: a user name"):
        no.prepare_push(finished_run.folder, "alice/better", base_model=BASE)


def test_a_path_in_the_header_of_weights_is_found(
    finished_run: FinishedRun, tmp_path: Path
) -> None:
    weights = finished_run.folder / "adapter" / "adapter_model.safetensors"
    copy = tmp_path / "adapter_model.safetensors"
    save_file(load_file(weights), copy, metadata={"made": "/home/alice/run"})
    with pytest.raises(ConfigError, match="nothing was pushed"):
        refuse_private({"adapter_model.safetensors": copy}, {})
    refuse_private({"adapter_model.safetensors": weights}, {})


def test_all_that_is_sent_was_looked_through(
    finished_run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    from neuron_opsd.exporting import publication

    monkeypatch.setattr(
        publication, "refuse_private", lambda files, *_: seen.append(dict(files))
    )
    found = no.prepare_push(finished_run.folder, "alice/better", base_model=BASE)
    assert seen == [dict(found.files)]
    assert replace(found).sizes().keys() == seen[0].keys()
