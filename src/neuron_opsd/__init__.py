"""Improve a language model in one domain from unlabelled questions alone.

The commands are functions here: `run`, `compare`, `evaluate`, `analyse`, `plan`,
`foresee`, `preview`, `split`. So are the steps of the method, in the order of Algorithm
1; `examples/algorithm1.py` runs them in sequence. Names are imported at first use, so
`import neuron_opsd` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neuron_opsd.analysis.atlas.making import AtlasRequest as AtlasRequest
    from neuron_opsd.config import Config as Config
    from neuron_opsd.config.recipes import read_recipe as read_recipe
    from neuron_opsd.config.tables import load_config as load_config
    from neuron_opsd.data.questions import read_questions as read_questions
    from neuron_opsd.data.splitting import split as split
    from neuron_opsd.errors import NeuronOpsdError as NeuronOpsdError
    from neuron_opsd.exporting.export import export as export
    from neuron_opsd.exporting.publication import prepare_push as prepare_push
    from neuron_opsd.exporting.publication import push as push
    from neuron_opsd.judging.judge import judge as judge
    from neuron_opsd.library import analyse as analyse
    from neuron_opsd.library import compare as compare
    from neuron_opsd.library import evaluate as evaluate
    from neuron_opsd.library import extract_neurons as extract_neurons
    from neuron_opsd.library import foresee as foresee
    from neuron_opsd.library import plan as plan
    from neuron_opsd.library import preview as preview
    from neuron_opsd.library import run as run
    from neuron_opsd.methods import add_method as add_method
    from neuron_opsd.models.load import load_model as load_model
    from neuron_opsd.probing.plan import plan_probe as plan_probe
    from neuron_opsd.probing.probe import probe as probe
    from neuron_opsd.progress import Silent as Silent
    from neuron_opsd.steps import answers_to_show as answers_to_show
    from neuron_opsd.steps import build_contexts as build_contexts
    from neuron_opsd.steps import build_examples as build_examples
    from neuron_opsd.steps import capture_neurons as capture_neurons
    from neuron_opsd.steps import look_up as look_up
    from neuron_opsd.steps import make_learner as make_learner
    from neuron_opsd.steps import read_signals as read_signals
    from neuron_opsd.steps import representatives as representatives
    from neuron_opsd.steps import resolve as resolve
    from neuron_opsd.steps import sample_rollouts as sample_rollouts
    from neuron_opsd.steps import select_questions as select_questions
    from neuron_opsd.steps import tally_votes as tally_votes
    from neuron_opsd.steps import train as train
    from neuron_opsd.steps import with_medoids as with_medoids
    from neuron_opsd.tracking.tracked import tracked as tracked

__version__ = "0.1.0"

_HOMES = {
    "analysis.atlas.making": "AtlasRequest",
    "config": "Config",
    "config.recipes": "read_recipe",
    "config.tables": "load_config",
    "data.questions": "read_questions",
    "data.splitting": "split",
    "errors": "NeuronOpsdError",
    "judging.judge": "judge",
    "exporting.export": "export",
    "exporting.publication": "prepare_push push",
    "library": "analyse compare evaluate extract_neurons foresee plan preview run",
    "methods": "add_method",
    "models.load": "load_model",
    "probing.plan": "plan_probe",
    "probing.probe": "probe",
    "progress": "Silent",
    "steps": "answers_to_show build_contexts build_examples capture_neurons "
    "look_up make_learner read_signals representatives resolve sample_rollouts "
    "select_questions tally_votes train with_medoids",
    "tracking.tracked": "tracked",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = ["__version__", *sorted(_HOME_OF)]


def __getattr__(name: str) -> object:
    """Import a name from the module that defines it."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__} has no {name}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
