"""Names that become folders: usable and apart on any machine, told before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuron_opsd.cli import main
from neuron_opsd.comparison.variants import check_variants, parse_variant
from neuron_opsd.config.tables import load_config
from neuron_opsd.errors import ConfigError
from neuron_opsd.runs.inputs import read_inputs
from tiny_runs import tiny_request

BAD = (
    *(
        "pool",
        "model",
        "Pool",
        "MODEL",
        "",
        ".",
        "..",
        ".hidden",
        "a/b",
        "../up",
        "/top",
    ),
    *("~", "a\0b", "a\nb", "a b", "con", "NUL", "com1", "lpt9.first", "aux.jsonl"),
    *(
        "end.",
        "a:b",
        "a\\b",
        "x" * 65,
        "x" * 255,
        "\U0001f600",
        "caf\u00e9",
        "cafe\u0301",
    ),
    *("-flag", "\u202ename", "\u0131d"),
)
GOOD = ("exam", "Exam-2", "a.b_c", "0", "x" * 64, "console", "com10", "tests", "before")


@pytest.mark.parametrize("name", BAD)
def test_a_name_that_cannot_be_a_folder_is_refused_before_any_work(
    tmp_path: Path, name: str
) -> None:
    # No file is there: the name is what is told first.
    with pytest.raises(
        ConfigError, match=r"cannot (name a test set|be named)"
    ) as caught:
        read_inputs("missing.jsonl", {name: "missing.jsonl"}, load_config(None, []))
    assert len(str(caught.value).splitlines()) == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", GOOD)
def test_other_names_are_taken(tmp_path: Path, name: str) -> None:
    request = tiny_request(tmp_path)
    config = load_config(None, ["contexts.num_demonstrations=2"])
    tests = {name: request.tests["parity"]}
    assert [t.name for t in read_inputs(request.pool, tests, config).tests] == [name]


def test_two_names_that_are_one_where_case_does_not_count_are_refused() -> None:
    tests = {"exam": "a.jsonl", "Exam": "b.jsonl"}
    with pytest.raises(ConfigError, match="'exam' and 'Exam' cannot both name a test"):
        read_inputs("missing.jsonl", tests, load_config(None, []))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("One=ttrl", "one=ttrl"), "'One' and 'one' cannot both name a method"),
        (("nul=ttrl",), "'nul' cannot name a method, because it is a device"),
        (("one=ttrl", "one=ttrl"), "the name one appears twice"),
    ],
)
def test_methods_of_a_comparison_are_folders_too(
    names: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        check_variants([parse_variant(name) for name in names], oracle=False)


def test_a_comparison_tells_a_name_before_it_looks_for_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = ["--source", "nul=a.jsonl", "--test", "nul=b.jsonl"]
    argv = ["compare", "--model", "none", *sets, "--out", str(tmp_path / "out")]
    assert main([*argv, "--methods", "ttrl"]) == 2
    assert "'nul' cannot name a test set" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
