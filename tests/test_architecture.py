"""Promises about the code itself; `rules.py` says what they are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

import neuron_opsd
import places
from rules import PACKAGE, RULES, circles

SOURCES = places.PACKAGE

HEAD = '"""A module."""\n'

PLANTED = {
    "upward_imports": [
        ("records", "from neuron_opsd.answers.votes import tally"),
        ("method.neurons", "from neuron_opsd.models import hf"),
        ("models.hf", "def f():\n    import neuron_opsd.stages.distill"),
        (
            "stages.distill",
            "from neuron_opsd.storage.run_directory import RunDirectory",
        ),
        ("stages.distill", "from neuron_opsd.report.charts.svg import line"),
        ("storage.files", "from neuron_opsd.models.gguf import convert"),
        ("data.hub", "from neuron_opsd.models.hf import load"),
        ("models.hf", "from neuron_opsd.data.hub import read"),
        ("report.run_page", "from neuron_opsd.storage.files import read"),
        ("report.run_page", "from neuron_opsd.stages.rollouts import ask"),
        ("method.neurons", "from neuron_opsd import stages"),
        ("method.neurons", "from neuron_opsd import run"),
        ("pipeline", "from neuron_opsd.cli.app import main"),
        ("pipeline", "from neuron_opsd.runs.run import run"),
        ("answers.votes", "from . import records"),
    ],
    "transformers_outside_models": [
        ("stages.distill", "import transformers"),
        ("cli.app", "def f():\n    from transformers.models import llama"),
        ("demo.fetch", "from peft import LoraConfig"),
    ],
    "ray_outside_cluster": [
        ("runs.run", "import ray"),
        ("cli.app", "def f():\n    from ray.util import ActorPool"),
    ],
    "trackers_outside_tracking": [
        ("runs.training", "import wandb"),
        ("cli.run", "def f():\n    from mlflow.entities import Metric"),
    ],
    "past_the_doorway": [
        ("runs.training", "from neuron_opsd.models.hf import HFModel"),
        ("pipeline", "from neuron_opsd.models import hf"),
        ("stages.rollouts", "import neuron_opsd.models.learner"),
        ("comparison.run_group", "from neuron_opsd.models.decoding import generation"),
        (
            "planning.estimate",
            "def f():\n    from neuron_opsd.models.tokenizer.encoding import Tokens",
        ),
    ],
    "gold_answers_below_evaluation": [
        ("stages.distill", "from neuron_opsd.records import GoldAnswers"),
        ("pipeline", "from neuron_opsd.records import GoldAnswers"),
        ("runs.prepare", "from neuron_opsd.records import GoldAnswers"),
        ("runs.training", "from neuron_opsd.records import GoldAnswers"),
        ("method.selection", "def f(gold):\n    return gold.answer_of['a']"),
        ("answers.votes", "import neuron_opsd.records as r\nx = r.GoldAnswers({})"),
    ],
    "targets_outside_oracles": [
        ("methods.imitation", "from neuron_opsd.methods.method import Targets"),
        (
            "methods.imitation",
            "import neuron_opsd.methods as m\nx = m.Target('a', 'a')",
        ),
        ("methods.imitation", "class A(Imitation):\n    def f(self, targets): ..."),
        ("methods.imitation", "class A(Method):\n    x = property(get('targets'))"),
        ("methods.distillation", "def f(oracle):\n    return oracle.targets"),
        ("runs.training", "from neuron_opsd.methods import Target"),
        ("stages.distill", "def f(told: Targets): ..."),
    ],
    "unsafe_calls": [
        ("models.hf", "import torch\nx = torch.load('x.bin')"),
        ("models.hf", "from torch import load"),
        ("storage.run_directory", "import pickle"),
        ("storage.run_directory", "from joblib import dump"),
        ("answers.readers", "x = eval('1')"),
        ("answers.readers", "exec('x = 1')"),
        ("models.hf", "x = make(trust_remote_code=True)"),
        ("models.hf", "x = make(trust_remote_code=flag)"),
        ("storage.run_directory", "x = np.load('x.npy', allow_pickle=True)"),
    ],
    "prints_outside_cli": [
        ("pipeline", "print('x')"),
        ("answers.votes", "show = print"),
    ],
    "too_long": [
        ("answers.votes", "def f():\n" + "    x = 1\n" * 60),
        ("answers.votes", "x = 1\n" * 351),
    ],
    "empty_names": [("utils", ""), ("models.helpers", "")],
    "public_without_docstring": [
        ("answers.votes", "def tally():\n    pass"),
        (
            "answers.votes",
            "class Box:\n    '''A box.'''\n    def open(self):\n        pass",
        ),
    ],
}

INNOCENT = [
    ("demo.fetch", "from neuron_opsd.models.gguf import convert"),
    ("runs.training", "from neuron_opsd.models.roles import Learner"),
    ("runs.training", "from neuron_opsd.models import roles"),
    ("storage.manifest", "from neuron_opsd import __version__"),
    ("models.hf", "import transformers\nx = make(trust_remote_code=False)"),
    ("models.hf", "model.eval()"),
    ("stages.scoring", "from neuron_opsd.records import GoldAnswers"),
    ("report.run_page", "from neuron_opsd.records import GoldAnswers"),
    (
        "methods.imitation",
        "class _A(Oracle, B):\n    def f(self):\n        return self.targets",
    ),
    ("stages.policy_gradient", "tokens = PolicyTokens(targets=ids)"),
    ("cli.app", "print('x')"),
    ("answers.votes", "def f():\n    '''F.'''\n" + "    x = 1\n" * 58),
    ("answers.votes", "def _hidden():\n    pass"),
]


def modules() -> Iterator[tuple[str, str]]:
    for path in sorted(SOURCES.rglob("*.py")):
        parts = path.relative_to(SOURCES).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        yield name, path.read_text(encoding="utf-8")


@pytest.mark.parametrize("rule", RULES)
def test_every_module_keeps_the_rule(rule: str) -> None:
    # The front page names what it lends out; nothing else may import it.
    found = [
        line
        for module, source in modules()
        if module != "__init__"
        for line in RULES[rule](module, source)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("rule", "module", "source"),
    [(rule, *case) for rule, cases in PLANTED.items() for case in cases],
)
def test_a_planted_fault_is_found(rule: str, module: str, source: str) -> None:
    assert RULES[rule](module, HEAD + source)


@pytest.mark.parametrize(("module", "source"), INNOCENT)
def test_what_is_allowed_is_left_alone(module: str, source: str) -> None:
    assert [
        line for rule in RULES.values() for line in rule(module, HEAD + source)
    ] == []


def test_no_modules_import_each_other() -> None:
    assert circles({name: text for name, text in modules() if name != "__init__"}) == []


@pytest.mark.parametrize(
    "back",
    [
        "from neuron_opsd.models.hf import HFModel",
        "from neuron_opsd.models import hf",
        "def f():\n    from neuron_opsd.models.hf import HFModel",
        "if TYPE_CHECKING:\n    import neuron_opsd.models.hf",
    ],
)
def test_a_planted_circle_is_found(back: str) -> None:
    sources = {
        "models.hf": "from neuron_opsd.models.decoding.generation import generate",
        "models.decoding.generation": back,
        "models.load": "from neuron_opsd.models.hf import HFModel",
        "records": "import math",
    }
    assert circles(sources) == ["models.decoding.generation", "models.hf"]


def test_every_rule_has_a_planted_fault() -> None:
    assert set(PLANTED) == set(RULES)


def test_the_front_page_is_cheap_and_keeps_its_promises() -> None:
    script = (
        "import sys, neuron_opsd\n"
        "heavy = {'torch', 'transformers', 'pydantic', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert neuron_opsd.__version__\n"
        "assert set(neuron_opsd.__all__) <= set(dir(neuron_opsd))\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize("name", neuron_opsd.__all__)
def test_every_exported_name_can_be_had(name: str) -> None:
    assert getattr(neuron_opsd, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=f"{PACKAGE} has no attics"):
        _ = neuron_opsd.attics
