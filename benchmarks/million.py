"""Measure time and memory of all that a run does with a pool besides its model.

    python benchmarks/million.py                          # 1,000,000 short questions
    python benchmarks/million.py --pool 100000 --rule nearest
    python benchmarks/million.py --kind stem --json million.json

Questions, rollouts and neuron sets are made up and written by a process of their own.
This one then calls what a run calls, in the same order: it reads the questions and
those of a test set, looks for the one in the other, reads the rollouts, votes, takes
the rollout that stands for each question, reads the neuron sets, selects, chooses
demonstrations and writes out the prompts. Selection and contexts go through their
files, as in a run.

Memory is the process's own: what it held after each stage, and the most during it. The
neuron sets are counted apart, since a model decides how large they are.

`--kind` says what questions are like: `plain` ones of common and rare words, `template`
with numbers filled in, `stem` of one text and different choices, `passage` about shared
passages, `word` of one word each.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Final, cast

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src")]


from neuron_opsd.answers.readers import readers_for  # noqa: E402
from neuron_opsd.answers.votes import tally_votes  # noqa: E402
from neuron_opsd.config import Config  # noqa: E402
from neuron_opsd.data.overlap import check_overlap, duplicates_of  # noqa: E402
from neuron_opsd.known import look_up  # noqa: E402
from neuron_opsd.method.selection import (  # noqa: E402
    PoolSignals,
    kept_ids,
    rank_questions,
    select_questions,
    selection_warnings,
)
from neuron_opsd.models.roles import LanguageModel, ModelFacts  # noqa: E402
from neuron_opsd.pipeline import demonstration_pool  # noqa: E402
from neuron_opsd.prompts import resolve_prompts  # noqa: E402
from neuron_opsd.records import (  # noqa: E402
    Completion,
    NeuronSet,
    Prompt,
    Question,
    Rollout,
    TeacherContext,
    TokenIds,
)
from neuron_opsd.runs.inputs import (  # noqa: E402
    questions_hash,
    read_pool,
    read_tests,
)
from neuron_opsd.stages.remarks import on_search  # noqa: E402
from neuron_opsd.stages.rollouts import ask  # noqa: E402
from neuron_opsd.stages.teacher_check import (  # noqa: E402
    one_answer_findings,
    pool_findings,
    selection_findings,
)
from neuron_opsd.stages.teaching import (  # noqa: E402
    DemonstrationPool,
    build_contexts,
    build_examples,
    demonstrable,
    own_answers,
    representatives,
    shown_answers,
)
from neuron_opsd.storage.caching import Workspace  # noqa: E402
from neuron_opsd.storage.codecs import (  # noqa: E402
    CONTEXTS,
    NEURONS,
    ROLLOUTS,
    SELECTION,
)
from neuron_opsd.storage.stored_rollouts import summaries_of  # noqa: E402

GB: Final = 1e9
LIMIT: Final = 6.0
"""GB beside the neuron sets, for a pool of a million short questions."""

NUM_WORDS: Final = 200_000
NUM_NEURONS: Final = 46_080

SUMMARY_COLUMNS = ModelFacts(
    name="made up",
    family="none",
    num_parameters=135_000_000,
    num_layers=30,
    num_neurons=1536,
    width=576,
    vocab_size=2**20,
    max_positions=8192,
    has_chat_template=False,
    device="cpu",
    compute="float32",
)


class Tokens:
    """A model that takes every word for a token and can do nothing else."""

    facts = SUMMARY_COLUMNS

    def encode(self, prompt: Prompt) -> TokenIds:
        """Return as many tokens as a prompt has words."""
        text = prompt.text or " ".join(turn.content for turn in prompt.messages)
        return (1,) * len(text.split())

    def prompt_text(self, prompt: Prompt) -> str:
        """Return the prompt's turns, one a line."""
        return "\n".join([prompt.text, *(turn.content for turn in prompt.messages)])


@dataclass(frozen=True)
class Files:
    """Where everything lies that a run would read."""

    folder: Path

    @property
    def pool(self) -> Path:
        """The questions trained on."""
        return self.folder / "pool.jsonl"

    @property
    def test(self) -> Path:
        """A test set."""
        return self.folder / "test.jsonl"

    @property
    def rollouts(self) -> Path:
        """What a model answered."""
        return self.folder / "rollouts.parquet"

    @property
    def neurons(self) -> Path:
        """The neurons of its answers."""
        return self.folder / "neurons.parquet"


@dataclass(frozen=True)
class Stage:
    """What one stage took."""

    name: str
    seconds: float
    held_gb: float
    """By the process once it was done."""
    peak_gb: float
    """The most meanwhile."""
    file_mb: float | None
    """Size of what it wrote."""


@dataclass
class Measured:
    """The stages measured so far."""

    stages: list[Stage] = field(default_factory=list)
    sets_gb: float = 0.0

    @contextmanager
    def stage(self, name: str, written: Path | None = None) -> Iterator[None]:
        """Measure what is done inside, and print it."""
        gc.collect()
        reset_peak()
        start, before = perf_counter(), memory("VmRSS")
        yield
        seconds, peak = perf_counter() - start, memory("VmHWM")
        gc.collect()
        size = written.stat().st_size / 1e6 if written else None
        stage = Stage(name, seconds, memory("VmRSS"), peak, size)
        if name == SETS:
            self.sets_gb = stage.held_gb - before
        self.stages.append(stage)
        print(row(stage), flush=True)

    @property
    def beside_gb(self) -> float:
        """The most memory that was held beside the neuron sets."""
        names = [stage.name for stage in self.stages]
        first = names.index(SETS)
        return max(
            stage.peak_gb - (self.sets_gb if i > first else 0.0)
            for i, stage in enumerate(self.stages)
        )


SETS: Final = "neuron sets read"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pool", type=int, default=1_000_000, help="questions")
    parser.add_argument("--test", type=int, default=10_000, help="questions")
    parser.add_argument("--samples", type=int, default=8, help="rollouts a question")
    parser.add_argument("--neurons", type=int, default=64, help="of a set, about")
    parser.add_argument("--kind", choices=sorted(KINDS), default="plain")
    parser.add_argument("--rule", default="random", help="contexts.rule")
    parser.add_argument("--balance", action="store_true", help="selection.balance")
    parser.add_argument("--json", type=Path, help="write the numbers there too")
    parser.add_argument("--folder", type=Path, help="of what is made up, kept there")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.make:
        make_all(Files(options.make), options)
        return 0
    with TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if not Files(folder).neurons.exists():
            arguments = sys.argv[1:] if argv is None else list(argv)
            command = [sys.executable, __file__, *arguments, "--make", str(folder)]
            subprocess.run(command, check=True)
        print("| stage | seconds | GB held | GB at most | MB written |")
        print("|---|---|---|---|---|", flush=True)
        measured = measure(Files(folder), options)
    print(
        f"\nat most {measured.beside_gb:.2f} GB beside the sets of "
        f"{measured.sets_gb:.2f} GB"
    )
    if options.json:
        table = asdict(measured) | {"beside_gb": measured.beside_gb}
        asked = {name: str(value) for name, value in vars(options).items()}
        options.json.write_text(json.dumps({"asked": asked, **table}, indent=2))
    return 0 if measured.beside_gb <= LIMIT else 1


def measure(files: Files, options: argparse.Namespace) -> Measured:
    """Go through all stages."""
    measured = Measured()
    config = config_of(options)
    pool = read_all(files, config, measured)
    with measured.stage("prompts asked"):
        sum(len(MODEL.encode(a.prompt)) for a in ask(pool, config))
    with measured.stage("rollouts read"):
        rollouts = ROLLOUTS.load(files.rollouts)
    with measured.stage("votes, representatives"):
        readers = readers_for(pool, config.answers, config.prompts.list_choices)
        votes = tally_votes(summaries_of(rollouts), readers)
        chosen = representatives(summaries_of(rollouts), votes, config)
        own = own_answers(chosen)
    with measured.stage(SETS):
        neurons = NEURONS.load(files.neurons)
    signals = PoolSignals(neurons, chosen, votes)
    path = files.folder / SELECTION.file_name
    with measured.stage("selection", path):
        SELECTION.save(select_questions(signals, config.selection, config.seed), path)
        selection = SELECTION.load(path)
        ranking = rank_questions(signals, config.selection, config.seed)
        remarks = selection_warnings(ranking, config.selection)
    with measured.stage("library"):
        by_id = {question.id: question for question in pool}
        answers = demonstrable(
            MODEL, by_id, shown_answers(rollouts, votes, config), config
        )
        known = look_up(Workspace(config), MODEL, pool, signals)
        library = demonstration_pool(pool, answers, known, selection, config)
    path = files.folder / CONTEXTS.file_name
    trained = known.of(kept_ids(selection))
    with measured.stage(f"contexts ({options.rule})", path):
        CONTEXTS.save(build_contexts(trained, library, config), path)
        contexts = CONTEXTS.load(path)
        remarks += on_search(contexts, library)
    with measured.stage("examples"):
        examples = write_examples(contexts, library, config)
    with measured.stage("findings"):
        findings = (
            *pool_findings(pool, summaries_of(rollouts), config.teacher_check),
            *one_answer_findings(votes, config.teacher_check),
            *selection_findings(selection, own, config.teacher_check),
        )
    print(f"\n{len(examples):,} examples", *remarks, *findings, sep="\n- ")
    return measured


def read_all(files: Files, config: Config, measured: Measured) -> tuple[Question, ...]:
    """Read the questions as `read_inputs` does, stage by stage."""
    with measured.stage("pool read"):
        pool = read_pool(str(files.pool), config).questions
    with measured.stage("test set read"):
        (test,) = read_tests({"exam": str(files.test)}, "exam", config)
    with measured.stage("overlap"):
        tests = {test.name: test.questions}
        told = check_overlap(pool, tests, config.evaluation.max_overlap)
    with measured.stage("hash"):
        questions_hash(pool)
    with measured.stage("duplicates"):
        duplicates_of(pool)
    print(*told, sep="\n", end="")
    return pool


def write_examples(
    contexts: Sequence[TeacherContext], library: DemonstrationPool, config: Config
) -> Sequence[Any]:
    """Write out what student and teacher see."""
    return build_examples(
        MODEL,
        contexts,
        library,
        config,
        on_done=lambda _: None,
    )


MODEL: Final = cast("LanguageModel", Tokens())


def config_of(options: argparse.Namespace) -> Config:
    """Return the settings of a run."""
    config = Config()
    prompts = resolve_prompts(
        config.prompts, has_chat_template=False, constrained=False
    )
    return config.model_copy(
        update={
            "prompts": prompts,
            "rollouts": config.rollouts.model_copy(update={"mode": "free"}),
            "contexts": config.contexts.model_copy(update={"rule": options.rule}),
            "selection": config.selection.model_copy(
                update={"balance": options.balance}
            ),
        }
    )


def make_all(files: Files, options: argparse.Namespace) -> None:
    """Write everything that a run would read."""
    rng = np.random.default_rng(0)
    files.folder.mkdir(parents=True, exist_ok=True)
    write_file_of(files.pool, "p", options.pool, options.kind)
    write_file_of(files.test, "t", options.test, options.kind)
    rollouts = made_rollouts(options.pool, options.samples)
    ROLLOUTS.save(cast("Sequence[Rollout]", rollouts), files.rollouts)
    sets = made_sets(options.pool, options.neurons, rng)
    NEURONS.save(cast("Sequence[NeuronSet]", sets), files.neurons)


def write_file_of(path: Path, letter: str, count: int, kind: str) -> None:
    """Write made questions; those of a test set have a word of their own."""
    draw = random.Random(letter)
    mark = "exam " if letter == "t" else ""
    with path.open("w") as file:
        for number in range(count):
            table = KINDS[kind](draw, number)
            table["question"] = f"{mark * 12}{table['question']}"
            if letter == "t":
                table["answer"] = table["choices"][0] if "choices" in table else "17"
            file.write(json.dumps({"id": f"{letter}{number}", **table}) + "\n")


def some_words(draw: random.Random, count: int) -> str:
    """Return words of which some are common and most are rare."""
    return " ".join(f"w{int(NUM_WORDS ** draw.random())}" for _ in range(count))


def plain(draw: random.Random, number: int) -> dict[str, Any]:
    """Make a question of about twenty words."""
    return {"question": f"{some_words(draw, draw.randint(12, 28))} {number}?"}


def template(draw: random.Random, number: int) -> dict[str, Any]:
    """Make a question of a template with a few numbers."""
    del number
    one, two, three = (draw.randint(2, 99) for _ in range(3))
    return {
        "question": f"A baker makes {one} loaves in the morning and sells {two} of "
        f"them before noon. In the afternoon he makes {three} more and gives the rest "
        "to his neighbours at the end of the day. How many loaves does he give away?"
    }


def stem(draw: random.Random, number: int) -> dict[str, Any]:
    """Make a question whose text is that of all others."""
    choices = [f"{some_words(draw, 3)} {number} {letter}" for letter in "abcd"]
    return {
        "question": "Which of the following statements about plants and light is true?",
        "choices": choices,
    }


def passage(draw: random.Random, number: int) -> dict[str, Any]:
    """Make a question after one of some thousand passages."""
    shared = random.Random(draw.randrange(2000))
    return {"question": f"{some_words(shared, 60)}. {some_words(draw, 20)} {number}?"}


def word(draw: random.Random, number: int) -> dict[str, Any]:
    """Make a question of one word, which many others are too."""
    del number
    return {"question": some_words(draw, 1)}


KINDS: Final[dict[str, Callable[[random.Random, int], dict[str, Any]]]] = {
    kind.__name__: kind for kind in (plain, template, stem, passage, word)
}


def made_rollouts(num_questions: int, num_samples: int) -> Iterator[Rollout]:
    """Yield short answers, of which most agree."""
    draw = random.Random(0)
    for number in range(num_questions):
        own = draw.randint(0, 999)
        for index in range(num_samples):
            answer = own if draw.random() < 0.7 else draw.randint(0, 999)
            text = f"The answer is {answer}."
            tokens = (464, 3280, 318, answer, 13, 0)
            completion = Completion(tokens, text, True, -3.5, 0.25)  # noqa: FBT003
            yield Rollout(f"p{number}", index, 0.6, completion, str(answer))


def made_sets(count: int, size: int, rng: np.random.Generator) -> Iterator[NeuronSet]:
    """Yield sets whose common neurons are in most of them."""
    for number in range(count):
        drawn = NUM_NEURONS * rng.random(size) ** 3
        ids = np.unique(drawn.astype(np.uint32))
        scores = np.ones(ids.size, np.float32)
        yield NeuronSet(
            f"p{number}", int(ids.size + rng.integers(size)), ids, scores, 6
        )


def row(stage: Stage) -> str:
    """Return a row of the table."""
    size = "" if stage.file_mb is None else f"{stage.file_mb:,.0f}"
    return (
        f"| {stage.name} | {stage.seconds:.1f} | {stage.held_gb:.2f} | "
        f"{stage.peak_gb:.2f} | {size} |"
    )


def memory(name: str) -> float:
    """Return what Linux says of this process's memory, in GB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith(name))
    return int(value) * 1024 / GB


def reset_peak() -> None:
    """Let the most memory held begin at what is held now."""
    Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    sys.exit(main())
