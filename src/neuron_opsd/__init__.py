"""Improve a language model in one domain from unlabelled questions alone.

Everything a library user needs is a name of this module; it is imported when it is
first used, so that `import neuron_opsd` costs nothing. `pipeline` is the place to
start reading.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neuron_opsd.answers.votes import tally_votes as tally_votes
    from neuron_opsd.config import Config as Config
    from neuron_opsd.config.tables import load_config as load_config
    from neuron_opsd.data.questions import read_questions as read_questions
    from neuron_opsd.errors import NeuronOpsdError as NeuronOpsdError
    from neuron_opsd.method.selection import select_questions as select_questions
    from neuron_opsd.methods import method_of as method_of
    from neuron_opsd.models.load import load_learner as load_learner
    from neuron_opsd.models.load import load_model as load_model
    from neuron_opsd.pipeline import Request as Request
    from neuron_opsd.pipeline import evaluate as evaluate
    from neuron_opsd.pipeline import extract_neurons as extract_neurons
    from neuron_opsd.pipeline import run as run
    from neuron_opsd.progress import Silent as Silent
    from neuron_opsd.records import GoldAnswers as GoldAnswers
    from neuron_opsd.records import Message as Message
    from neuron_opsd.records import Question as Question
    from neuron_opsd.stages.capture import capture_neurons as capture_neurons
    from neuron_opsd.stages.fitness import check_teacher as check_teacher
    from neuron_opsd.stages.rollouts import ask as ask
    from neuron_opsd.stages.rollouts import sample_rollouts as sample_rollouts
    from neuron_opsd.stages.scoring import compare as compare
    from neuron_opsd.stages.scoring import score_rollouts as score_rollouts
    from neuron_opsd.stages.scoring import summarise as summarise
    from neuron_opsd.stages.teaching import DemonstrationPool as DemonstrationPool
    from neuron_opsd.stages.teaching import build_contexts as build_contexts
    from neuron_opsd.stages.teaching import build_examples as build_examples
    from neuron_opsd.stages.training import train as train

__version__ = "0.1.0"

__all__ = [
    "Config",
    "DemonstrationPool",
    "GoldAnswers",
    "Message",
    "NeuronOpsdError",
    "Question",
    "Request",
    "Silent",
    "__version__",
    "ask",
    "build_contexts",
    "build_examples",
    "capture_neurons",
    "check_teacher",
    "compare",
    "evaluate",
    "extract_neurons",
    "load_config",
    "load_learner",
    "load_model",
    "method_of",
    "read_questions",
    "run",
    "sample_rollouts",
    "score_rollouts",
    "select_questions",
    "summarise",
    "tally_votes",
    "train",
]

_HOMES = {
    "config": ("Config",),
    "errors": ("NeuronOpsdError",),
    "method.selection": ("select_questions",),
    "methods": ("method_of",),
    "models.load": ("load_learner", "load_model"),
    "pipeline": ("Request", "evaluate", "extract_neurons", "run"),
    "progress": ("Silent",),
    "records": ("GoldAnswers", "Message", "Question"),
    "config.tables": ("load_config",),
    "stages.capture": ("capture_neurons",),
    "stages.fitness": ("check_teacher",),
    "stages.rollouts": ("ask", "sample_rollouts"),
    "stages.scoring": ("compare", "score_rollouts", "summarise"),
    "stages.teaching": ("DemonstrationPool", "build_contexts", "build_examples"),
    "stages.training": ("train",),
    "answers.votes": ("tally_votes",),
    "data.questions": ("read_questions",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import what is asked for from the module that it lives in."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__} has no {name}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    """Return the names that a user may rely on."""
    return sorted(__all__)
