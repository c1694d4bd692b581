"""The atlas of a run: every number against a loop over the run's own files."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from loaded import plain_network
from neuron_opsd.analysis.analyse import analyse
from neuron_opsd.analysis.atlas import reading
from neuron_opsd.analysis.atlas.making import AtlasRequest
from neuron_opsd.analysis.places import Place
from neuron_opsd.cli import main
from neuron_opsd.comparison.compare import compare
from neuron_opsd.comparison.comparison import Comparison
from neuron_opsd.comparison.variants import parse_variant
from neuron_opsd.config import Config
from neuron_opsd.errors import ConfigError, DataError, ModelError
from neuron_opsd.method.contexts.search import jaccard_distance
from neuron_opsd.method.enrichment import strata_of
from neuron_opsd.models.load import load_model
from neuron_opsd.progress import Silent
from neuron_opsd.records import NeuronSet, Prompt, Rollout
from neuron_opsd.results.comparison import BASE, FORM
from neuron_opsd.stages.capture import capture_answers, capture_neurons
from neuron_opsd.storage.codecs import CONTEXTS, NEURONS, ROLLOUTS, SELECTION
from reference import trace
from tiny import NUM_LAYERS, NUM_NEURONS
from tiny_runs import (
    FinishedRun,
    files_of,
    parity_rows,
    pool_rows,
    read_json,
    tiny_config,
    tiny_request,
    tiny_run,
    without_answers,
    write_rows,
)

Card = Mapping[str, Any]

SHORT = (
    *("neurons.keep=30", "distill.steps=2", "evaluation.num_samples=1"),
    *("evaluation.prompted=false", "teacher_check.action=off"),
    "contexts.answer=first",  # greedy ones of this model are all of one length
)
"""A run of few steps whose sets are large enough to differ."""


@dataclass(frozen=True)
class Charted:
    """A run with its atlas, made with the model."""

    done: FinishedRun
    out: Path
    atlas: dict[str, Any]
    before: dict[str, bytes]
    pool: Path

    @property
    def run(self) -> Path:
        """The run directory."""
        return self.done.folder

    @property
    def sets(self) -> dict[str, NeuronSet]:
        """The run's own sets by question."""
        found = NEURONS.load(self.run / "neurons.parquet")
        return {one.question_id: one for one in found}

    @property
    def groups(self) -> dict[str, set[str]]:
        """Ids of the questions of each group."""
        kept = SELECTION.load(self.run / "selection.json")
        shown = CONTEXTS.load(self.run / "contexts.json")
        return {
            "pool": set(self.sets),
            "selected": {one.question_id for one in kept if one.kept},
            "demonstrations": {
                one.question_id for context in shown for one in context.demonstrations
            },
        }


def charted(out: Path, *runs: Path, **choices: Any) -> Silent:
    """Analyse some runs with an atlas; return what was said."""
    progress = Silent()
    analyse(runs, out, progress, (), "a command", AtlasRequest(**choices))
    return progress


@pytest.fixture(scope="module")
def made(tiny_llama_plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Charted:
    """Give a run with its atlas; tests must leave both as they are."""
    folder = tmp_path_factory.mktemp("charted")
    request = tiny_request(folder)
    done = tiny_run(request, tiny_config(tiny_llama_plain, *SHORT))
    before = files_of(done.folder)
    pool = write_rows(folder / "plain.jsonl", without_answers(pool_rows("choices")))
    choices = {"pools": (str(pool),), "read_model": True, "neurons": ("1:7",)}
    charted(folder / "out", done.folder, num_read=10, **choices)
    atlas = read_json(folder / "out" / "atlas" / "run.json")
    return Charted(done, folder / "out", atlas, before, pool)


def holders(made: Charted, card: Card, names: set[str]) -> set[str]:
    """Return which of some questions hold a neuron."""
    one = card["layer"] * NUM_NEURONS + card["neuron"]
    return {name for name in names if one in made.sets[name].neuron_ids.tolist()}


def test_counts_are_those_of_a_loop_over_the_files(made: Charted) -> None:
    groups, size = made.groups, len(made.sets)
    assert made.atlas["num_layers"] == NUM_LAYERS
    assert made.atlas["num_neurons"] == NUM_NEURONS
    assert len(made.atlas["cards"]) >= 16
    for card in made.atlas["cards"]:
        own = holders(made, card, groups["pool"])
        for name, members in groups.items():
            count = len(own & members)
            assert card["counts"][name] == count
            if name != "pool" and own:
                lift = count / len(members) / (len(own) / size)
                assert card["lifts"][name] == pytest.approx(lift)
        one = card["layer"] * NUM_NEURONS + card["neuron"]
        scores = {
            name: float(made.sets[name].scores[made.sets[name].neuron_ids == one][0])
            for name in own
        }
        if own:
            assert card["mean_score"] == pytest.approx(np.mean(list(scores.values())))
        best = sorted(own, key=lambda name: -scores[name])[:5]
        assert [q["score"] for q in card["questions"]] == pytest.approx(
            [scores[name] for name in best]
        )
        assert {q["question_id"] for q in card["questions"]} <= own


def test_what_chance_would_give_is_counted_within_lengths(made: Charted) -> None:
    sets, groups = made.sets, made.groups
    lengths = [float(one.num_tokens) for one in sets.values()]
    assert len(set(lengths)) > 1
    strata = dict(zip(sets, strata_of(lengths, 10).tolist(), strict=True))
    for card in made.atlas["cards"]:
        own = holders(made, card, groups["pool"])
        for name in ("selected", "demonstrations"):
            expected = 0.0
            for stratum in set(strata.values()):
                inside = {question for question in sets if strata[question] == stratum}
                drawn = len(inside & groups[name])
                expected += len(inside & own) * drawn / len(inside)
            assert card["expected"][name] == pytest.approx(expected)


def test_layers_are_those_of_a_loop_over_the_files(made: Charted) -> None:
    for name, members in made.groups.items():
        held = [int(i) for q in members for i in made.sets[q].neuron_ids]
        for row in made.atlas["layers"]:
            own = [i for i in held if i // NUM_NEURONS == row["layer"]]
            counts = {i: own.count(i) for i in own}
            assert row["shares"][name] == pytest.approx(len(own) / len(held))
            assert row["used"][name] == len(counts)
            common = [i for i, count in counts.items() if 2 * count >= len(members)]
            assert row["common"][name] == len(common)
    rows = {row["name"]: row for row in made.atlas["groups"]}
    for name, members in made.groups.items():
        sizes = [len(made.sets[question].neuron_ids) for question in members]
        assert rows[name]["num_questions"] == len(members)
        assert rows[name]["mean_size"] == pytest.approx(np.mean(sizes))
        assert (rows[name]["found"] is None) == (name == "pool")


def captured_rollouts(made: Charted) -> dict[str, Rollout]:
    """Return the rollout whose neurons were read, by question."""
    found = ROLLOUTS.load(made.run / "rollouts.parquet")
    first = [one for one in found if one.index == 0]
    greedy = [one for one in first if one.temperature == 0.0]
    return {one.question_id: one for one in greedy or first}


def pairs(made: Charted, names: list[str]) -> list[Any]:
    """Return prompts and completions of some questions."""
    model = load_model(made.done.config.model)
    rollouts = captured_rollouts(made)
    rows = {row["id"]: row["question"] for row in pool_rows("choices")}
    return [
        (
            model.encode(Prompt(f"Question: {rows[name]}\nAnswer:")),
            rollouts[name].completion.token_ids,
        )
        for name in names
    ]


def test_pushed_tokens_are_activation_times_projection(made: Charted) -> None:
    model = load_model(made.done.config.model)
    network = plain_network(Path(made.done.config.model.name))
    weights = network.state_dict()
    unembedding = network.get_output_embeddings().weight.detach()
    checked = 0
    for card in made.atlas["cards"][:6]:
        names = [question["question_id"] for question in card["questions"]]
        down = weights[f"model.layers.{card['layer']}.mlp.down_proj.weight"]
        exact: list[tuple[float, str, str]] = []
        for name, (prompt, completion) in zip(names, pairs(made, names), strict=True):
            gates = trace(network, prompt + completion).gates[card["layer"]]
            scores = [
                float(
                    gates[len(prompt) - 1 + t, card["neuron"]]
                    * torch.dot(down[:, card["neuron"]], unembedding[token])
                )
                for t, token in enumerate(completion)
            ]
            texts = [model.token_text(token) for token in completion]
            own = sorted(zip(scores, texts, strict=True), reverse=True)[:3]
            exact += [(score, name, text) for score, text in own if score > 0]
        exact.sort(reverse=True)
        found = card["tokens"]
        assert len(found) == min(8, len(exact))
        for one, (score, name, text) in zip(found, exact, strict=False):
            assert one["score"] == pytest.approx(score, rel=1e-3, abs=1e-5)
            checked += (one["question_id"], one["token"]) == (name, text)
        # The best push of an answer is the score that the run kept.
        assert found[0]["score"] == pytest.approx(
            card["questions"][0]["score"], rel=1e-4, abs=1e-5
        )
    assert checked > 20


def test_output_rows_stand_on_the_cards(made: Charted) -> None:
    network = plain_network(Path(made.done.config.model.name))
    unembedding = network.get_output_embeddings().weight.detach()
    model = load_model(made.done.config.model)
    known = len(model.tokens.tokenizer)
    for card in made.atlas["cards"]:
        down = network.get_decoder().layers[card["layer"]].mlp.down_proj.weight
        exact = (unembedding @ down.detach()[:, card["neuron"]])[:known]
        for name, sign in (("favoured", 1), ("opposed", -1)):
            values, tokens = (sign * exact).topk(8)
            shown = card["output"][name]
            weights = [one["weight"] for one in shown]
            assert weights == pytest.approx((sign * values).tolist(), rel=1e-4)
            assert shown[0]["token"] == model.token_text(int(tokens[0]))


def test_movement_is_that_of_sets_read_again(made: Charted) -> None:
    config: Config = made.done.config
    moved = made.atlas["moved"]
    base_model = load_model(config.model)
    trained_model = load_model(config.model, made.run / "adapter")
    names = list(made.sets)
    both = [
        capture_neurons(model, names, pairs(made, names), config.neurons, 4096)
        for model in (base_model, trained_model)
    ]
    base, trained = ({one.question_id: one for one in sets} for sets in both)
    read = NEURONS.load(made.out / "atlas" / "run" / "base" / "00000.parquet")
    ids = [one.question_id for one in read]
    ids += [
        one.question_id
        for one in NEURONS.load(made.out / "atlas" / "run" / "base" / "00001.parquet")
    ]
    assert len(ids) == len(set(ids)) == moved["num_questions"] == 10
    assert ids == [name for name in made.sets if name in ids]
    selected = made.groups["selected"]
    assert len(selected & set(ids)) == 5
    for group in moved["groups"]:
        own = [i for i in ids if (i in selected) == (group["name"] == "selected")]
        apart = [
            jaccard_distance(base[i].neuron_ids, trained[i].neuron_ids) for i in own
        ]
        assert group["num_questions"] == len(own)
        assert group["distance"] == pytest.approx(np.mean(apart))
        assert group["distance"] > 0
        assert group["control"] < group["distance"] / 2
        for layer, told in enumerate(group["layers"]):
            within = [
                jaccard_distance(*of_layer(layer, base[i], trained[i])) for i in own
            ]
            assert told == pytest.approx(np.mean(within))
    for card in made.atlas["cards"]:
        assert card["trained"]["one"] == len(holding(card, base, ids))
        assert card["trained"]["other"] == len(holding(card, trained, ids))
    for kind, sign in (("gained", 1), ("lost", -1)):
        changes = [one["rates"]["other"] - one["rates"]["one"] for one in moved[kind]]
        assert changes
        assert [sign * change > 0 for change in changes] == [True] * len(changes)
        assert changes == sorted(changes, key=lambda change: -sign * change)


def of_layer(layer: int, *sets: NeuronSet) -> list[Any]:
    """Return the neurons of one layer."""
    return [
        one.neuron_ids[one.neuron_ids // NUM_NEURONS == layer].astype(np.uint32)
        for one in sets
    ]


def holding(card: Card, sets: Mapping[str, NeuronSet], ids: list[str]) -> list[str]:
    """Return which of some questions hold a neuron in some sets."""
    one = card["layer"] * NUM_NEURONS + card["neuron"]
    return [name for name in ids if one in sets[name].neuron_ids.tolist()]


def test_the_run_is_left_alone_and_a_neuron_that_was_asked_for_is_shown(
    made: Charted,
) -> None:
    assert files_of(made.run) == made.before
    asked = [card for card in made.atlas["cards"] if "asked" in card["why"]]
    assert [(card["layer"], card["neuron"]) for card in asked] == [(1, 7)]
    page = (made.out / "atlas" / "run.html").read_text("utf-8")
    assert 'href="#n1-7"' in page
    assert "Is 3 odd or even?" in page
    assert '<a href="atlas/run.html">' in (made.out / "analysis.html").read_text()


def test_what_was_read_is_not_read_again_and_the_page_is_the_same(
    made: Charted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(made.out, out)
    chunk = out / "atlas" / "run" / "trained" / "00001.parquet"
    chunk.unlink()
    calls: list[int] = []
    read = capture_answers

    def counted(model: Any, answered: Any, config: Any) -> Any:
        calls.append(len(answered))
        return read(model, answered, config)

    monkeypatch.setattr(reading, "capture_answers", counted)
    monkeypatch.setattr(reading, "watch_tokens", None)
    choices = {"pools": (str(made.pool),), "read_model": True, "neurons": ("1:7",)}
    charted(out, made.run, num_read=10, **choices)
    assert calls == [2]  # the chunk that was missing, of 10 questions in chunks of 8
    assert kept_files(out) == kept_files(made.out)
    calls.clear()
    charted(out, made.run, num_read=8, **choices)
    assert calls == [8, 8]  # other questions: base and trained model read again


@pytest.mark.parametrize(
    ("changed", "read"), [("model", [8, 2] * 2), ("adapter", [8, 2])]
)
def test_what_was_read_of_other_weights_is_read_again(
    changed: str,
    read: list[int],
    made: Charted,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    shutil.copytree(made.out, out)
    calls: list[int] = []

    def counted(model: Any, answered: Any, config: Any) -> Any:
        calls.append(len(answered))
        return capture_answers(model, answered, config)

    usual = Place.hash_of
    monkeypatch.setattr(reading, "capture_answers", counted)
    if changed == "model":
        monkeypatch.setattr(reading, "model_fingerprint", lambda _: "another")
    else:
        monkeypatch.setattr(
            Place,
            "hash_of",
            lambda self, name: "another" if name == changed else usual(self, name),
        )
    choices = {"pools": (str(made.pool),), "read_model": True, "neurons": ("1:7",)}
    said = charted(out, made.run, num_read=10, **choices)
    assert calls == read
    assert any("was made from other inputs" in text for text in said.warnings)


def kept_files(out: Path) -> dict[str, bytes]:
    """Return the files of atlases, without receipts, which hold how long it took."""
    found = files_of(out / "atlas")
    return {name: data for name, data in found.items() if not name.endswith(".done")}


def test_two_runs_stand_side_by_side(made: Charted, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(made.run, other)
    out = tmp_path / "out"
    charted(out, made.run, against=other)
    atlas = read_json(out / "atlas" / "run.json")
    beside = atlas["beside"]
    assert beside["name"] == "other"
    assert beside["same_pool"]
    assert beside["both_selected"] == len(made.groups["selected"])
    for name in ("pool", "selected", "demonstrations"):
        assert beside["correlations"][name] == pytest.approx(1.0)
        assert beside["common"][name] == 1.0
    assert beside["layers"] == atlas["layers"]
    for card in atlas["cards"]:
        for name, rates in card["against"].items():
            assert rates["one"] == rates["other"] == card["counts"][name]
        assert card["tokens"] is None
        assert card["output"] is None
        assert all(question["question"] == "" for question in card["questions"])


def test_runs_of_one_model_on_two_pools_are_compared_by_their_counts(
    made: Charted, tiny_llama_plain: Path, tmp_path: Path
) -> None:
    request = tiny_request(tmp_path, "second", kind="free")
    config = tiny_config(tiny_llama_plain, *SHORT)
    second = tiny_run(request, config).folder
    charted(tmp_path / "out", made.run, against=second)
    atlas = read_json(tmp_path / "out" / "atlas" / "run.json")
    theirs = NEURONS.load(second / "neurons.parquet")
    size = NUM_LAYERS * NUM_NEURONS
    counts = [
        np.array([sum(i in one.neuron_ids for one in sets) for i in range(size)])
        for sets in (made.sets.values(), theirs)
    ]
    held = (counts[0] > 0) | (counts[1] > 0)
    exact = np.corrcoef(counts[0][held], counts[1][held])[0, 1]
    assert atlas["beside"]["correlations"]["pool"] == pytest.approx(exact)
    common = [2 * c >= n for c, n in zip(counts, (20, len(theirs)), strict=True)]
    share = (common[0] & common[1]).sum() / (common[0] | common[1]).sum()
    assert atlas["beside"]["common"]["pool"] == pytest.approx(share)
    assert not atlas["beside"]["same_pool"]
    assert exact < 1


def test_what_cannot_be_is_refused(made: Charted, tmp_path: Path) -> None:
    for name in ("1", "2:0", "0:64", "x:1", "-1:3", "1:7:2"):
        with pytest.raises(ConfigError, match="LAYER:NEURON with a layer from 0 to 1"):
            charted(tmp_path / "out", made.run, neurons=(name,))
    with pytest.raises(ConfigError, match="shows 40 of them at most"):
        charted(tmp_path / "out", made.run, neurons=("0:0",) * 41)
    with pytest.raises(ConfigError, match="--num-read is 1"):
        charted(tmp_path / "out", made.run, num_read=1)
    file = write_rows(tmp_path / "other.jsonl", pool_rows("free"))
    with pytest.raises(DataError, match="does not hold the questions that run run"):
        charted(tmp_path / "out", made.run, pools=(str(file),))
    with pytest.raises(ConfigError, match="--pool is 'x=y'"):
        charted(tmp_path / "out", made.run, pools=("x=y",))


def test_a_run_of_other_neurons_does_not_stand_beside(
    made: Charted, finished_run: FinishedRun, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="model or neuron settings differ"):
        charted(tmp_path / "out", made.run, against=finished_run.folder)


def test_a_run_without_its_model_is_analysed_without_an_atlas(
    made: Charted, tiny_llama: Path, tmp_path: Path
) -> None:
    model = Path(made.done.config.model.name)
    hidden = model.with_name("moved")
    model.rename(hidden)
    try:
        said = charted(tmp_path / "out", made.run)
        assert any("name it with --model" in text for text in said.warnings)
        assert sorted(files_of(tmp_path / "out")) == [
            *("analysis.csv", "analysis.html", "analysis.json"),
        ]
        with pytest.raises(ModelError):
            charted(tmp_path / "other", made.run, read_model=True)
        charted(tmp_path / "again", made.run, model=str(hidden))
        assert (tmp_path / "again" / "atlas" / "run.html").is_file()
        with pytest.raises(DataError, match=r"not those that .* was started with"):
            charted(tmp_path / "x", made.run, model=str(tiny_llama), read_model=True)
    finally:
        hidden.rename(model)


def test_without_questions_only_output_rows_are_read(
    made: Charted, tmp_path: Path
) -> None:
    said = charted(tmp_path / "out", made.run, read_model=True)
    assert any("without its questions" in text for text in said.warnings)
    atlas = read_json(tmp_path / "out" / "atlas" / "run.json")
    assert all(card["output"] and card["tokens"] is None for card in atlas["cards"])
    assert atlas["moved"] is None
    assert atlas["why_not_moved"] == "no questions were given"


def test_a_run_that_is_not_trained_yet_says_so(made: Charted, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(made.run, run)
    (run / "adapter" / "adapter_model.safetensors").write_bytes(b"cut")
    choices = {"pools": (str(made.pool),), "read_model": True}
    charted(tmp_path / "out", run, **choices)
    atlas = read_json(tmp_path / "out" / "atlas" / "run.json")
    assert "adapter is not as the run wrote it" in atlas["why_not_moved"]
    assert all(card["tokens"] is not None for card in atlas["cards"])


def test_methods_of_a_comparison_are_read_from_the_model_they_began_with(
    tiny_llama_plain: Path, tmp_path: Path
) -> None:
    pool = write_rows(tmp_path / "pool.jsonl", pool_rows("choices"))
    test = write_rows(tmp_path / "test.jsonl", parity_rows(range(100, 104)))
    wanted = Comparison(
        sources={"own": str(pool)},
        tests={"own": str(test)},
        variants=(parse_variant("gated=neuron-opsd:neurons.value=gated"),),
        num_seeds=1,
        starts=(BASE, FORM),
        out=tmp_path / "out",
        command="a command",
    )
    short = ("distill.steps=1", "evaluation.num_resamples=20", "neurons.keep=30")
    config = tiny_config(tiny_llama_plain, *short, "evaluation.prompted=false")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        assert not compare(wanted, config, Silent()).failures
    block = tmp_path / "out" / "blocks" / "own" / "seed-0"
    choices = {"pools": (str(pool),), "read_model": True}
    began = block / BASE / "methods" / "gated"
    charted(tmp_path / "atlas", began, num_read=4, **choices)
    atlas = read_json(tmp_path / "atlas" / "atlas" / "own-seed-0-base-gated.json")
    assert atlas["value"] == "gated"
    assert atlas["moved"]["num_questions"] == 4
    assert max(group["distance"] for group in atlas["moved"]["groups"]) > 0
    assert all(group["control"] < 0.05 for group in atlas["moved"]["groups"])
    later = block / FORM / "methods" / "gated"
    with pytest.raises(ConfigError, match="its neurons cannot be read again"):
        charted(tmp_path / "later", later, **choices)
    charted(tmp_path / "files", later)
    assert (tmp_path / "files" / "atlas" / f"own-seed-0-{FORM}-gated.html").is_file()


def test_the_command_takes_what_the_pages_show(
    made: Charted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["analyse", str(made.run), "--out", str(tmp_path / "out"), "--json"]
    words += ["--against", str(made.run), "--neurons", "0:1", "1:2"]
    words += ["--pool", str(made.pool)]
    assert main([*words, "--quiet"]) == 0
    text = capsys.readouterr().out
    assert str(tmp_path / "out" / "atlas" / "run.html") in text
    atlas = read_json(tmp_path / "out" / "atlas" / "run.json")
    asked = [c for c in atlas["cards"] if "asked" in c["why"]]
    assert [(c["layer"], c["neuron"]) for c in asked] == [(0, 1), (1, 2)]
    assert atlas["with_texts"]
    assert not atlas["with_model"]
    assert atlas["beside"]["name"] == "run"


def test_pages_do_not_say_where_the_model_is(made: Charted) -> None:
    model = Path(read_json(made.run / "manifest.json")["settings"]["model.name"])
    assert model.is_absolute()
    assert made.atlas["model"] == model.name
    for page in made.out.rglob("*.html"):
        assert str(model.parent) not in page.read_text(encoding="utf-8"), page
