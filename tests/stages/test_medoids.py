"""The rollout whose neurons are most like those of its question's others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from neuron_opsd.config.tables import load_config
from neuron_opsd.known import votes_with
from neuron_opsd.method.contexts.search import jaccard_distance
from neuron_opsd.records import Completion, Message, Pair, Question, Rollout, Vote
from neuron_opsd.records.beliefs import Medoid
from neuron_opsd.stages.capture import capture_pairs, find_medoids
from neuron_opsd.stages.rollouts import ask
from neuron_opsd.stages.teaching import fits, representatives, shown_answers
from neuron_opsd.storage.stored_rollouts import Answered, Samples
from scripted import ScriptedModel

CONFIG = load_config(
    None,
    [
        *("prompts.form=plain", "prompts.list_choices=no", "rollouts.mode=free"),
        *("contexts.answer=neuron-medoid", "neurons.per_layer=6", "neurons.keep=9"),
    ],
)
QUESTIONS = [Question(name, (Message("user", f"{name}?"),)) for name in ("a", "b", "c")]
ASKED = ask(QUESTIONS, CONFIG)


def rollout(name: str, index: int, text: str, *, read: bool = True) -> Rollout:
    ids = tuple(text.encode())
    completion = Completion(ids, text, finished=True, logprob=0.0, entropy=0.0)
    return Rollout(name, index, 0.6, completion, text if read else None)


class Counting(ScriptedModel):
    """Counts the pairs that are read."""

    pairs = 0

    def capture(self, pairs: Sequence[Pair], *rest: Any, **more: Any) -> None:
        """Count them."""
        self.pairs += len(pairs)
        super().capture(pairs, *rest, **more)


def test_the_medoid_is_nearest_to_the_others_by_neurons() -> None:
    model = Counting({})
    texts = ["one", "two", "three", "two", "four"]
    rollouts = tuple(rollout("a", i, text) for i, text in enumerate(texts))
    ((found,), others) = (
        find_medoids(model, [(ASKED[0], rollouts)], CONFIG),
        model.pairs,
    )
    assert others == 4  # the second of two alike takes no pass
    prompt = model.encode(ASKED[0].prompt)
    pairs = [(str(i), (prompt, tuple(t.encode()))) for i, t in enumerate(texts)]
    sets = [one.neuron_ids for one in capture_pairs(model, pairs, CONFIG)]
    means = [
        sum(jaccard_distance(one, other) for other in sets) / 4  # its own is 0
        for one in sets
    ]
    assert found.index == int(np.argmin(means)) == 1
    assert found.distance == pytest.approx(min(means))
    assert found.num_read == sum(len(prompt) + len(t) for t in set(texts))


def test_what_cannot_be_read_is_no_medoid() -> None:
    twice = [rollout("b", i, "same", read=False) for i in range(3)]
    rollouts = (*twice, rollout("b", 3, "other"))
    none = tuple(rollout("c", i, "gone", read=False) for i in range(2))
    found = find_medoids(
        ScriptedModel({}), [(ASKED[1], rollouts), (ASKED[2], none)], CONFIG
    )
    assert [(one.question_id, one.index) for one in found] == [("b", 3), ("c", None)]


def test_a_demonstration_shows_the_medoid() -> None:
    drawn = [rollout("a", 0, "one"), rollout("a", 1, "two"), rollout("b", 0, "three")]
    plain = {name: Vote(name, "one", {"one": 1}, 1) for name in "ab"}
    votes = votes_with(plain, [Medoid("a", 1, 0.5), Medoid("b", None, None)])
    assert [fits(one, votes, CONFIG.contexts) for one in drawn] == [False, True, False]
    assert shown_answers(drawn, votes, CONFIG) == {"a": "two"}
    chosen = representatives(drawn, votes, CONFIG)
    assert {name: one.index for name, one in chosen.items()} == {"a": 1, "b": 0}
    # Votes that know no medoid show nothing, so it is noticed.
    assert shown_answers(drawn, plain, CONFIG) == {}


def test_all_samples_of_a_question_are_found_by_it() -> None:
    greedy = rollout("a", 0, "greedy")
    cold = Rollout("a", 0, 0.0, greedy.completion, "greedy")
    whole = [rollout("b", 0, "x"), cold, rollout("a", 0, "y"), rollout("a", 1, "z")]
    answered = Answered(["A", "B", "C"], ["a", "b", "c"], Samples(whole))
    assert list(answered) == [
        ("A", (whole[2], whole[3])),
        ("B", (whole[0],)),
        ("C", ()),
    ]
    assert list(answered[1:]) == [("B", (whole[0],)), ("C", ())]
