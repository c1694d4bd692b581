"""A folder that attacks whoever loads it is refused in one line, soon and cheaply."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import hostile_models
from hostile_models import CASES, HARMLESS
from loaded import loaded
from neuron_opsd.errors import ModelError
from neuron_opsd.models.description import try_tokenizer
from neuron_opsd.models.gguf.pre_tokenizers import PRE_TOKENIZERS
from neuron_opsd.models.weights.finite import refuse_not_finite

MOST_PROCESSOR = 3.0
"""Seconds of one refusal, with room for a machine that does other work; two without."""

MOST_MEMORY = 200 << 20

QUICK = (
    "good",
    "pickle as safetensors",
    "header of 90 MB of blanks",
    "overlapping offsets",
    "weights as whole numbers",
    "not a number",
    "enormous width",
    "enormous layers",
    "enormous labels",
    "epsilon that is none",
    "configuration is a pipe",
    "own kernel",
    "expression that backtracks",
    "text that grows",
    "GGUF of a long list",
    "GGUF of a list of lists",
)
"""Those that the suite tries, and a good model."""

SAID = {
    "not a number": "of model.layers.1.mlp.up_proj.weight are not finite",
    "enormous width": "describes 933000000000000 weights, but its files hold 29856",
    "epsilon that is none": "sets rms_norm_eps to nan",
    "enormous layers": "sets num_hidden_layers to 1000000000, but its files hold 20",
}
"""Where others would refuse it too, later and for a worse reason."""


def tried(*names: str) -> dict[str, Any]:
    """Return what attacks did."""
    script = Path(hostile_models.__file__)
    done = subprocess.run(
        [sys.executable, str(script), *names], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check(name: str, found: dict[str, Any]) -> None:
    """See that an attack was refused in a line, soon, and with little memory."""
    assert found["status"] == 0, name
    assert not found["unpickled"]
    assert found["processor"] < MOST_PROCESSOR, name
    assert found["memory"] < MOST_MEMORY, name
    if name == "good":
        assert not found["said"]
        return
    assert SAID.get(name, "") in found["said"]
    if name not in HARMLESS or found["said"]:
        assert found["said"].startswith("ModelError: "), (name, found["said"])
        assert "\n" not in found["said"]


def test_hostile_folders_are_refused() -> None:
    for name, found in tried(*QUICK).items():
        check(name, found)


@pytest.mark.long
@pytest.mark.parametrize("start", range(0, len(CASES), 20))
def test_more_hostile_folders_are_refused(start: int) -> None:
    for name, found in tried(*[*CASES][start : start + 20]).items():
        check(name, found)


# --- numbers that are none ---


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16])
def test_one_value_that_is_no_number_is_found_and_named(
    value: float, kind: torch.dtype
) -> None:
    sound, spoilt = torch.ones(99, dtype=kind), torch.ones(3, 5, dtype=kind)
    spoilt[1, 2] = value
    refuse_not_finite("model m", [("a", sound)])
    with pytest.raises(ModelError) as error:
        refuse_not_finite("model m", [("a", sound), ("b", spoilt)])
    assert str(error.value) == (
        "model m: 1 of the 15 values of b are not finite (NaN or infinite); the file "
        "is damaged, or its training failed"
    )


def test_values_whose_sum_alone_is_infinite_are_sound() -> None:
    refuse_not_finite("model m", [("a", torch.full((9,), 3e38))])


def test_opposite_infinities_do_not_hide_each_other() -> None:
    spoilt = torch.tensor([float("inf"), float("-inf")])
    with pytest.raises(ModelError, match="2 of the 2 values of a"):
        refuse_not_finite("model m", [("a", spoilt)])


# --- tokenizers ---


def test_the_expressions_of_known_tokenizers_get_done(tmp_path: Path) -> None:
    expressions = {e for way in PRE_TOKENIZERS.values() for e in way.expressions}
    steps = [
        {"type": "Split", "pattern": {"Regex": e}, "behavior": "Isolated"}
        | {"invert": False}
        for e in sorted(expressions)
    ]
    path = tmp_path / "tokenizer.json"
    cut = {"type": "Sequence", "pretokenizers": steps}
    path.write_text(json.dumps({"pre_tokenizer": cut}), "utf-8")
    try_tokenizer(path)
    try_tokenizer(None)


def test_a_tokenizer_that_gives_up_on_one_text_says_so(
    tiny_llama: Path, tmp_path: Path
) -> None:
    """One that was good when it was tried."""
    folder = Path(shutil.copytree(tiny_llama, tmp_path / "model"))
    hostile_models.cut_by("(x+x+)+y=zq|[^=]+|=")(folder)
    model = loaded(tiny_llama)
    from transformers import AutoTokenizer

    model.tokens.tokenizer = AutoTokenizer.from_pretrained(folder)
    with pytest.raises(
        ModelError, match=r"the tokenizer of .* gave up on a text: Onig"
    ):
        model.tokens.encode_rendered("x" * 200, "")
