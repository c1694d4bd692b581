"""Weights come from the model's own safetensors, every file of them in its hash."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from loaded import model_config
from neuron_opsd.config import Config, ModelConfig
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import ConfigError, DataError, ModelError
from neuron_opsd.models.gguf import unpacked
from neuron_opsd.models.load import load_model
from neuron_opsd.runs.fingerprint import model_fingerprint
from neuron_opsd.runs.inputs import run_settings
from neuron_opsd.runs.machines import load_again
from neuron_opsd.storage.run_directory import RunDirectory
from tiny import tiny_model
from tiny_gguf import TinyGGUF
from tiny_runs import tiny_config, tiny_request, tiny_run

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PARTS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
COMMIT, OTHER_COMMIT = "a" * 40, "b" * 40


@pytest.fixture
def copy(tiny_llama: Path, tmp_path: Path) -> Path:
    """Give a model folder that a test may spoil."""
    return Path(shutil.copytree(tiny_llama, tmp_path / "copy"))


def split(folder: Path, *names: str) -> None:
    """Cut a model's weights into parts of these names, with an index of them."""
    weights = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    places = {key: names[i % len(names)] for i, key in enumerate(sorted(weights))}
    for name in names:
        part = {key: weights[key] for key in places if places[key] == name}
        write_part(folder / name, part)
    table = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(table))


def write_part(path: Path, part: dict[str, torch.Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".bin":
        torch.save(part, path)
    else:
        save_file(part, path, metadata={"format": "pt"})


def scale(path: Path, factor: float = 1.05) -> None:
    """Multiply all weights of a file."""
    weights = {name: weight * factor for name, weight in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})


def fingerprint(folder: Path | str) -> str:
    return model_fingerprint(ModelConfig(name=str(folder)))


def refusal(folder: Path) -> str:
    """Return why a model is not loaded, and make sure that nothing is unpickled."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("pickled weights were opened")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "load", refuse)
        with pytest.raises(ModelError) as error:
            load_model(model_config(folder))
    assert "\n" not in str(error.value)
    return str(error.value)


# --- what an index may name ---


def test_a_model_in_parts_is_loaded(copy: Path) -> None:
    whole = load_model(model_config(copy)).network.state_dict()
    split(copy, *PARTS)
    parts = load_model(model_config(copy)).network.state_dict()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("weights.bin", "does not end in .safetensors"),
        ("pytorch_model.bin", "does not end in .safetensors"),
        ("weights.safetensors.pkl", "does not end in .safetensors"),
        ("../outside.safetensors", "is not the plain name of a file"),
        ("deep/inside.safetensors", "is not the plain name of a file"),
        ("{tmp}/absolute.safetensors", "is not the plain name of a file"),
    ],
)
def test_an_index_that_names_anything_else_is_refused(
    name: str, problem: str, copy: Path, tmp_path: Path
) -> None:
    name = name.format(tmp=tmp_path)
    # One good part as well: without any *.safetensors the folder is refused before.
    split(copy, PARTS[0], name)
    assert f"names {name!r}, which {problem};" in refusal(copy)


def test_an_index_beside_whole_weights_may_name_no_pickle_either(copy: Path) -> None:
    table = {"metadata": {}, "weight_map": {"x": "weights.bin"}}
    (copy / INDEX).write_text(json.dumps(table))
    assert "names 'weights.bin', which does not end in" in refusal(copy)


def test_a_part_that_is_missing_is_named(copy: Path) -> None:
    split(copy, *PARTS)
    (copy / PARTS[1]).unlink()
    assert f"names {PARTS[1]!r}, which is missing;" in refusal(copy)


def test_a_part_that_is_a_link_out_is_refused(copy: Path, tmp_path: Path) -> None:
    split(copy, *PARTS)
    (copy / PARTS[1]).rename(tmp_path / "elsewhere.safetensors")
    (copy / PARTS[1]).symlink_to(tmp_path / "elsewhere.safetensors")
    assert f"names {PARTS[1]!r}, which is a link out of the folder;" in refusal(copy)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": 1}}', "[" * 9999],
)
def test_an_index_that_is_none_is_refused(text: str, copy: Path) -> None:
    split(copy, *PARTS)
    (copy / INDEX).write_text(text)
    assert f"{INDEX} is damaged" in refusal(copy)


@pytest.mark.parametrize("name", ["adapter_model.bin", "other.safetensors", 3])
def test_a_configuration_that_names_other_weights_is_refused(
    name: object, copy: Path
) -> None:
    settings = json.loads((copy / "config.json").read_text())
    settings["transformers_weights"] = name
    (copy / "config.json").write_text(json.dumps(settings))
    assert f"names the weights {name!r} (transformers_weights)" in refusal(copy)


def test_an_adapter_beside_a_model_is_refused(copy: Path) -> None:
    (copy / "adapter_config.json").write_text("{}")
    assert "holds adapter_config.json beside its configuration" in refusal(copy)


# --- what is hashed ---


def test_every_file_that_is_loaded_is_in_the_hash(copy: Path) -> None:
    split(copy, *PARTS)
    (copy / "chat_template.jinja").write_text("{{ messages }}")
    (copy / "additional_chat_templates").mkdir()
    (copy / "additional_chat_templates" / "tools.jinja").write_text("{{ tools }}")
    (copy / "words.tiktoken").write_text("IQ== 0")
    names = [p.relative_to(copy) for p in sorted(copy.rglob("*")) if p.is_file()]
    assert {
        INDEX,
        *PARTS,
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    } <= set(map(str, names))
    seen = {fingerprint(copy)}
    for name in names:
        data = (copy / name).read_bytes()
        (copy / name).write_bytes(data + b" ")
        seen.add(fingerprint(copy))
        (copy / name).write_bytes(data)
    assert len(seen) == 1 + len(names)


def test_what_is_never_loaded_is_not_in_the_hash(copy: Path) -> None:
    before = fingerprint(copy)
    for name in ("README.md", "LICENSE", "weights.bin", ".gitattributes", "a.gguf"):
        (copy / name).write_text("x")
    assert fingerprint(copy) == before


def test_a_model_is_the_same_however_its_place_is_written(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(copy)
    (tmp_path / "within").mkdir()
    monkeypatch.chdir(tmp_path)
    names = (str(copy), "copy", "./copy/", "within/../copy", "link")
    assert len({fingerprint(name) for name in names}) == 1
    found = [run_settings(load_config(None, [f"model.name={n}"])) for n in names]
    for settings in found:
        assert settings["model.name"] == str(copy)
        with RunDirectory.open(tmp_path / "run", settings, {}):
            pass
    # A run of the version before, which kept the name as it was typed.
    with RunDirectory.open(tmp_path / "old", {"model.name": "copy"}, {}):
        pass
    with RunDirectory.open(tmp_path / "old", {"model.name": str(copy)}, {}):
        pass
    with (
        pytest.raises(ConfigError, match=r"model\.name was"),
        RunDirectory.open(tmp_path / "run", {**found[0], "model.name": "within"}, {}),
    ):
        pass


# --- changed between two parts of a run, or during one ---


@pytest.mark.parametrize("parts", [(), PARTS])
def test_scaled_weights_are_seen_when_a_run_resumes(
    parts: tuple[str, ...], tmp_path: Path
) -> None:
    config = tiny_config(tmp_path / "model")
    tiny_model(tmp_path / "model")
    if parts:
        split(tmp_path / "model", *parts)
    request = tiny_request(tmp_path, "run")
    tiny_run(request, config)
    scale(tmp_path / "model" / (parts or (WEIGHTS,))[-1])
    with pytest.raises(DataError, match="other input files: model was changed"):
        tiny_run(request, config)


def test_a_relative_and_an_absolute_model_make_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_model(tmp_path / "model")
    request = tiny_request(tmp_path, "run")
    monkeypatch.chdir(tmp_path)
    tiny_run(request, tiny_config(Path("model")))
    before = (request.out / "adapter" / "adapter_config.json").read_bytes()
    tiny_run(request, tiny_config(tmp_path / "model"))
    assert (request.out / "adapter" / "adapter_config.json").read_bytes() == before


def test_weights_that_change_while_a_run_is_at_work_stop_it(
    copy: Path, tmp_path: Path
) -> None:
    config = model_config(copy)
    with RunDirectory.open(
        tmp_path / "run", {}, {"model": model_fingerprint(config)}
    ) as run:
        load_again(run, Config(model=config))
        scale(copy / WEIGHTS)
        with pytest.raises(DataError, match=r"were changed while .* was running"):
            load_again(run, Config(model=config))


# --- the hub's cache ---


def hub_cache(home: Path, model: Path, commit: str, name: str = "org/tiny") -> Path:
    """Put a model into a folder laid out as the hub's own cache; return its files."""
    place = home / "hub" / f"models--{name.replace('/', '--')}"
    snapshot = place / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (place / "blobs").mkdir(exist_ok=True)
    (place / "refs").mkdir(exist_ok=True)
    (place / "refs" / "main").write_text(commit)
    for path in sorted(model.iterdir()):
        blob = place / "blobs" / f"{commit[:4]}-{path.name}"
        shutil.copy(path, blob)
        (snapshot / path.name).symlink_to(Path("..", "..", "blobs", blob.name))
    return snapshot


def hub_load(home: Path) -> tuple[int, str]:
    """Load a model by its hub id in a process of its own; say what it is known by."""
    script = (
        "import sys\n"
        "from neuron_opsd.config import ModelConfig\n"
        "from neuron_opsd.errors import ModelError\n"
        "from neuron_opsd.runs.fingerprint import model_fingerprint\n"
        "from neuron_opsd.models.load import load_model\n"
        "config = ModelConfig(name='org/tiny')\n"
        "try:\n    load_model(config)\n"
        "except ModelError as error:\n    sys.exit(str(error))\n"
        "print(model_fingerprint(config))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        env=os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_hub_id_is_known_by_its_commit_and_weights(
    tiny_llama: Path, copy: Path, tmp_path: Path
) -> None:
    home = tmp_path / "hub-home"
    first = hub_cache(home, tiny_llama, COMMIT)
    status, one = hub_load(home)
    assert status == 0, one
    assert one.startswith(f"org/tiny@{COMMIT} ")

    scale((first / WEIGHTS).resolve())
    assert hub_load(home)[1] not in (one, "")

    split(copy, *PARTS)
    hub_cache(home, copy, OTHER_COMMIT)
    status, other = hub_load(home)
    assert status == 0, other
    assert other.startswith(f"org/tiny@{OTHER_COMMIT} ")


def test_a_folder_of_the_hub_cache_is_a_model_like_any(
    copy: Path, tmp_path: Path
) -> None:
    split(copy, *PARTS)
    load_model(model_config(hub_cache(tmp_path / "home", copy, COMMIT)))


def test_an_index_of_the_hub_may_name_no_pickle(copy: Path, tmp_path: Path) -> None:
    split(copy, PARTS[0], "weights.bin")
    hub_cache(tmp_path / "home", copy, COMMIT)
    status, said = hub_load(tmp_path / "home")
    assert status == 1
    assert "names 'weights.bin', which does not end in .safetensors" in said


# --- converted GGUF files ---


@pytest.fixture
def converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """Give a way to convert a GGUF file as a new process would."""
    monkeypatch.setenv("NEURON_OPSD_CACHE", str(tmp_path / "cache"))
    path = TinyGGUF().write(tmp_path / "tiny.gguf")

    def convert() -> Path:
        unpacked.cache_clear()
        return unpacked(path)

    return convert


def test_a_converted_model_that_was_changed_is_refused(
    converted: Callable[[], Path],
) -> None:
    folder = converted()
    scale(folder / WEIGHTS)
    with pytest.raises(ModelError, match=r"was changed or damaged: model\.safe"):
        converted()


def test_a_conversion_of_an_earlier_version_is_compared_with_a_new_one(
    converted: Callable[[], Path],
) -> None:
    folder = converted()
    (folder / ".converted.json").unlink()
    assert converted() == folder
    assert (folder / ".converted.json").is_file()
    (folder / ".converted.json").unlink()
    scale(folder / WEIGHTS)
    with pytest.raises(ModelError, match=r"was changed or damaged: model\.safe"):
        converted()
    (folder / ".converted.json").write_text("{")
    with pytest.raises(ModelError, match=r"converted\.json is damaged"):
        converted()


def test_no_model_is_converted_into_a_foreign_cache(
    converted: Callable[[], Path], tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"but it holds thesis\.txt"):
        converted()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["thesis.txt"]
