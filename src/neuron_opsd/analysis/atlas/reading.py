"""What only the model knows of a run's neurons: tokens, and sets after training.

The run is not changed. Results are kept in chunks next to the page, and remade if their
inputs change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Final, TypeVar

from neuron_opsd.analysis.atlas.source import (
    ADAPTER,
    Source,
    check_readable,
    why_not_trained,
)
from neuron_opsd.config.tables import flatten
from neuron_opsd.models.load import HFModel, Weights, load_model, output_weights
from neuron_opsd.progress import Progress
from neuron_opsd.records import Completion, NeuronSet
from neuron_opsd.results.atlas import NeuronCard, OutputRow, PushedToken, TokenWeight
from neuron_opsd.runs.fingerprint import model_fingerprint
from neuron_opsd.stages.capture import capture_answers
from neuron_opsd.stages.neuron_tokens import TokenPushes, Watched, watch_tokens
from neuron_opsd.stages.rollouts import PromptedQuestion, ask
from neuron_opsd.storage.caching import InChunks
from neuron_opsd.storage.chunks import Chunks, Joined, Plan
from neuron_opsd.storage.codecs import NEURONS, Codec, records_codec
from neuron_opsd.storage.manifest import json_sha256
from neuron_opsd.storage.stored_rollouts import Answered, Chosen

R = TypeVar("R")
Item = TypeVar("Item")

NUM_TOKENS: Final = 8
"""Tokens shown at either end of an output row, and as pushed."""
PUSHES: Final = records_codec("tokens.json", TokenPushes)


@dataclass(frozen=True, slots=True, eq=False)
class Reader:
    """A run's model, and where its results are kept."""

    source: Source
    model: HFModel
    folder: Path
    progress: Progress

    @classmethod
    def of(cls, source: Source, folder: Path, progress: Progress) -> Reader:
        """Load the model of a run.

        Raises:
            ConfigError: If the run's neurons are of another model.
            DataError: If it is not the model that the run started with.
            ModelError: If it cannot be loaded.
        """
        check_readable(source)
        model = load_model(source.config.model)
        model.room.told = progress.warn
        return cls(source, model, folder, progress)

    def kept(
        self,
        codec: Codec[Sequence[R]],
        items: Sequence[Item],
        compute: Callable[[Sequence[Item]], Sequence[R]],
        made_from: Mapping[str, str],
    ) -> Sequence[R]:
        """Compute a list chunk by chunk, reusing kept chunks."""
        chunks = InChunks(items, self.source.config.rollouts.block_size)
        name = codec.file_name.partition(".")[0]
        plan = Plan(len(items), chunks.size, {**self.inputs(), **made_from})
        parts = Chunks(self.folder / name, codec, plan, self.progress.warn)
        with self.progress.stage(f"atlas: {name}", len(items), "answers") as done:
            for number, chunk in enumerate(chunks):
                start = perf_counter()
                if not parts.has(number):
                    parts.keep(number, compute(chunk), start)
                done(len(chunk))
        return Joined(parts, range(len(chunks)))

    def inputs(self) -> dict[str, str]:
        """Return the hashes that all results depend on."""
        return {
            "model": model_fingerprint(self.source.config.model),
            "rollouts": self.source.place.hash_of("rollouts"),
            "settings": json_sha256(flatten(self.source.config)),
        }

    def answered(self, ids: Sequence[str]) -> Answered[PromptedQuestion, Completion]:
        """Pair questions as asked with the answers read."""
        source = self.source
        asked = ask([source.texts[name] for name in ids], source.config)
        captured = source.found.columns.captured
        return Answered(asked, ids, Chosen(source.run.rollouts, captured))


def with_output(model: HFModel, cards: Sequence[NeuronCard]) -> list[NeuronCard]:
    """Add the tokens that each neuron's output row favours and opposes."""
    places = [(card.layer, card.neuron) for card in cards]
    found = output_weights(model, places, NUM_TOKENS)

    def words(weights: Weights) -> tuple[TokenWeight, ...]:
        return tuple(TokenWeight(model.token_text(t), weight) for t, weight in weights)

    return [
        replace(card, output=OutputRow(words(one.favoured), words(one.opposed)))
        for card, one in zip(cards, found, strict=True)
    ]


def with_tokens(reader: Reader, cards: Sequence[NeuronCard]) -> list[NeuronCard]:
    """Add the tokens that each neuron pushed in its questions."""
    shape = reader.source.shape
    ids = [shape.id_of(card.layer, card.neuron) for card in cards]
    wanted: dict[str, list[int]] = {}
    for neuron_id, card in zip(ids, cards, strict=True):
        for one in card.questions:
            wanted.setdefault(one.question_id, []).append(neuron_id)
    names = [name for name in reader.source.found.columns.ids if name in wanted]
    answered = reader.answered(names)

    def watch(chunk: Sequence[int]) -> list[TokenPushes]:
        some = answered[chunk[0] : chunk[-1] + 1]
        watched = [
            Watched(asked, completion, tuple(wanted[asked.question.id]))
            for asked, completion in some
        ]
        return watch_tokens(reader.model, watched, reader.source.config)

    made_from = {"watched": json_sha256([[name, wanted[name]] for name in names])}
    found = reader.kept(PUSHES, range(len(names)), watch, made_from)
    tokens: dict[int, list[PushedToken]] = {}
    for own_tokens in found:
        for push in own_tokens.pushes:
            tokens.setdefault(push.neuron_id, []).append(
                PushedToken(
                    question_id=own_tokens.question_id,
                    before=reader.model.decode(push.before),
                    token=reader.model.token_text(push.token),
                    score=push.score,
                )
            )
    return [
        replace(card, tokens=most(tokens.get(neuron_id, [])))
        for neuron_id, card in zip(ids, cards, strict=True)
    ]


def most(tokens: Sequence[PushedToken]) -> tuple[PushedToken, ...]:
    """Return the most strongly pushed tokens."""
    return tuple(sorted(tokens, key=lambda one: -one.score)[:NUM_TOKENS])


def read_again(
    reader: Reader, ids: Sequence[str]
) -> tuple[Sequence[NeuronSet], Sequence[NeuronSet], str]:
    """Read the sets of some answers again, under base and trained model.

    Returns:
        The sets under each, and why there are none, if so.
    """
    source = reader.source
    if reason := why_not_trained(source):
        return (), (), reason
    answered = reader.answered(ids)
    asked = {"questions": json_sha256(list(ids))}

    def capture(model: HFModel) -> Callable[[Sequence[int]], list[NeuronSet]]:
        def read(chunk: Sequence[int]) -> list[NeuronSet]:
            some = list(answered[chunk[0] : chunk[-1] + 1])
            return capture_answers(model, some, source.config)

        return read

    places = range(len(ids))
    own = NEURONS.named("base")
    base = reader.kept(own, places, capture(reader.model), asked)
    trained_model = load_model(source.config.model, source.adapter, base=reader.model)
    adapter = {ADAPTER: source.place.hash_of(source.place.own(ADAPTER))}
    own = NEURONS.named("trained")
    trained = reader.kept(own, places, capture(trained_model), {**asked, **adapter})
    return base, trained, ""
