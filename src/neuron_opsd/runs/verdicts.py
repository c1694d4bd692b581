"""Which answers are equal, settled once and kept: for the `latex` reader alone.

Other readers compare by what they read, in no time. Verdicts lie beside what was
compared, so that a run that resumes says of two answers what it said before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from neuron_opsd.answers.readers import readers_for
from neuron_opsd.answers.verifier import Verdict, shared_verifier, unsettled_text
from neuron_opsd.answers.votes import sampled_rollouts, tally_votes
from neuron_opsd.errors import TryAgainError
from neuron_opsd.outlines import RolloutFacts
from neuron_opsd.records import Question, Rollout, Vote
from neuron_opsd.runs.context import RunContext
from neuron_opsd.storage.codecs import Codec, records_codec
from neuron_opsd.storage.kept_rollouts import outlines_of
from neuron_opsd.storage.proofs import fault_of

T = TypeVar("T")

SUFFIX = ".verdicts"


def verdicts_name(source: str) -> str:
    """Return what the verdicts on the answers of an output are called."""
    return source + SUFFIX


def verdicts_codec(name: str) -> Codec[Sequence[Verdict]]:
    """Return how verdicts are kept."""
    return records_codec(f"{name}.json", Verdict)


def is_compared(run: RunContext) -> bool:
    """Whether answers are expressions, which math-verify compares."""
    return run.config.answers.reader == "latex"


def settle_equality(
    run: RunContext,
    source: str,
    questions: Sequence[Question],
    judge: Callable[[Sequence[Question]], object],
    made_from: Sequence[str] = (),
) -> tuple[Verdict, ...]:
    """Settle which answers to some questions are equal, block by block, and keep it.

    Warns of what could not be settled.

    Args:
        run: Keeps the verdicts.
        source: Name of the output that holds the answers.
        questions: That were answered.
        judge: Compares the answers to some of the questions, all that will be compared.
        made_from: Names of what the answers are compared with besides each other.

    Returns:
        All verdicts that sight does not give; none with another reader.

    Raises:
        TryAgainError: If it takes longer than `answers.max_minutes`.
    """
    if not is_compared(run):
        return ()
    name, verifier = verdicts_name(source), shared_verifier()

    def compute(block: Sequence[Question]) -> tuple[Verdict, ...]:
        with verifier.noting() as notes:
            judge(block)
        return tuple(notes.values())

    stage = f"{source}: comparing"
    with run.progress.stage(stage, len(questions), "questions") as done:
        found = run.directory.blocks(
            name,
            verdicts_codec(name),
            questions,
            run.config.rollouts.block_size,
            compute,
            done,
            made_from=[source, *made_from],
        )
    verifier.learn(found)
    warn_of_unsettled(run, source, found)
    return tuple(found)


def warn_of_unsettled(
    run: RunContext, source: str, verdicts: Sequence[Verdict]
) -> None:
    """Say how many comparisons were not settled, if any."""
    if text := unsettled_text(verdicts):
        run.directory.warn(f"{source}: {text}")


def num_unsettled(verdicts: Sequence[Verdict]) -> int:
    """Return how many comparisons were not settled."""
    return sum(bool(verdict.unsettled) for verdict in verdicts)


def vote(
    run: RunContext,
    questions: Sequence[Question],
    rollouts: Sequence[Rollout],
    source: str,
) -> dict[str, Vote]:
    """Vote on questions by their sampled rollouts.

    Args:
        run: Keeps the verdicts, and says how answers are read.
        questions: All that were answered.
        rollouts: Of these questions.
        source: Name of the output that holds the rollouts.
    """
    listed = run.config.prompts.list_choices
    readers = readers_for(questions, run.config.answers, listed)

    def judge(block: Sequence[Question]) -> None:
        tally_votes(of_questions(sampled, block), readers)

    sampled = grouped(run, rollouts)
    settle_equality(run, source, questions, judge)
    return tally_votes(outlines_of(rollouts), readers)


def grouped(
    run: RunContext, rollouts: Sequence[Rollout]
) -> dict[str, list[RolloutFacts]]:
    """Return sampled rollouts by question; none where nothing is to be settled."""
    return sampled_rollouts(outlines_of(rollouts)) if is_compared(run) else {}


def of_questions(
    sampled: Mapping[str, Sequence[RolloutFacts]], questions: Sequence[Question]
) -> list[RolloutFacts]:
    """Return the rollouts of some questions, as `grouped` has them."""
    return [one for question in questions for one in sampled.get(question.id, ())]


def training_name(work: str) -> str:
    """Return what the verdicts of a training in some folder are called."""
    return f"{work}/verdicts"


@contextmanager
def training_verdicts(
    run: RunContext, work: str, made_from: Sequence[str]
) -> Iterator[Callable[[], None]]:
    """Keep the verdicts of a training's votes, those of an earlier process too.

    Args:
        run: Keeps them, and hears of those that could not be settled.
        work: Folder of the training in the run directory.
        made_from: Names of what is trained from.

    Yields:
        What writes all there are by now.
    """
    if not is_compared(run):
        yield lambda: None
        return
    name = training_name(work)
    codec, verifier = verdicts_codec(name), shared_verifier()
    kept: Sequence[Verdict] = ()
    if run.directory.has(name, codec, made_from):
        kept = codec.load(run.directory.path(codec.file_name))
    verifier.learn(kept)
    with verifier.noting() as notes:
        notes.update({(v.one, v.other): v for v in kept})

        def write() -> None:
            run.directory.write(name, codec, tuple(notes.values()), made_from)

        try:
            yield write
        except TryAgainError:
            write()  # what cost two hours is not asked for again
            raise
        write()
        warn_of_unsettled(run, work, tuple(notes.values()))


def noted(
    run: RunContext, source: str, made_from: Sequence[str], compute: Callable[[], T]
) -> T:
    """Compute an output, and keep the verdicts that it took.

    Args:
        run: Keeps them.
        source: Name of the output.
        made_from: Names of what it is made from.
        compute: Makes it.
    """
    if not is_compared(run):
        return compute()
    name = verdicts_name(source)
    with shared_verifier().noting() as notes:
        value = compute()
    run.directory.write(name, verdicts_codec(name), tuple(notes.values()), made_from)
    return value


def warn_as_kept(run: RunContext, source: str, name: str) -> None:
    """Warn of what could not be settled when an output was made, if that is known.

    Args:
        run: Hears of it.
        source: What the output is called.
        name: Of the verdicts that were kept.
    """
    output = run.directory.manifest.outputs.get(name)
    if output is None:
        return
    path = run.directory.path(output.file)
    if fault := fault_of(run.directory.folder, output):
        run.directory.warn(
            f"{path} {fault}; which comparisons of {source} could not be settled is "
            "no longer known"
        )
        return
    warn_of_unsettled(run, source, verdicts_codec(name).load(path))
