"""Put together a run's files for the hub, then send them.

Only `push` uses the network.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from neuron_opsd.documents import first_line
from neuron_opsd.errors import ConfigError, TryAgainError
from neuron_opsd.exporting.finished import FinishedRun, finished_run
from neuron_opsd.exporting.privacy import Content, names_here, refuse_private
from neuron_opsd.models.weights.shards import ADAPTER_SETTINGS
from neuron_opsd.report.card import Publication, render_card
from neuron_opsd.results.run import POOL, TestComparison
from neuron_opsd.runs.reporting import EVALUATION
from neuron_opsd.storage.integrity import CARD

REPOSITORY: Final = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
"""A hub id with its owner."""

RESULTS: Final = ".eval_results"
"""The hub lists it with a benchmark."""

MESSAGE: Final = "Add what neuron-opsd trained and measured"

CLIENTS: Final = ("httpx", "httpx2")
"""Packages by which the hub's library connects; their errors are not `OSError`s."""

BASE: Final = "base_model_name_or_path"


@dataclass(frozen=True, slots=True)
class Package:
    """All that would be sent."""

    repo: str
    base_model: str
    card: str
    """The model card, one of the files."""
    files: Mapping[str, Content]
    """By name in the repository."""

    def sizes(self) -> dict[str, int]:
        """Return the bytes of every file."""
        return {
            name: one.stat().st_size if isinstance(one, Path) else len(one)
            for name, one in self.files.items()
        }


def prepare_push(
    run: str | Path,
    repo: str,
    *,
    base_model: str = "",
    pool_dataset: str = "",
    benchmarks: Mapping[str, str] | None = None,
    license: str = "",  # noqa: A002 - as the hub calls it
) -> Package:
    """Put together what a run would send to the hub; nothing is sent.

    Args:
        run: Folder of a finished run.
        repo: Hub id, with its owner.
        base_model: Hub id of the base, if the run had it in a folder.
        pool_dataset: Hub id of the pool.
        benchmarks: Hub ids of test sets by name; with ``#TASK`` those of registered
            benchmarks.
        license: Licence of what was trained.

    Raises:
        ConfigError: If a name is no hub id, the base is not named, or a file reveals
            something private.
        DataError: If the run is not finished, or was changed afterwards.
    """
    check_id(repo, "the repository")
    found, benchmarks = finished_run(Path(run)), benchmarks or {}
    base = base_of_hub(found, base_model)
    datasets = checked_datasets(found, benchmarks, pool_dataset)
    public = Publication(repo, license, datasets)
    card = render_card(found.report, base, base, public)
    files: dict[str, Content] = {
        CARD: card.encode(),
        **dict(trained_files(found, base)),
        EVALUATION.file_name: found.folder / EVALUATION.file_name,
        **dict(result_files(found, benchmarks)),
    }
    public_texts = (repo, base, *datasets.values())
    refuse_private(files, names_here(), sorted(public_texts, key=len, reverse=True))
    return Package(repo, base, card, files)


def checked_datasets(
    run: FinishedRun, benchmarks: Mapping[str, str], pool: str
) -> dict[str, str]:
    """Return hub ids of test sets and pool; refuse impossible ones."""
    names = [test.name for test in run.report.tests]
    for name in benchmarks:
        if name not in names:
            raise ConfigError(
                f"--benchmark names {name!r}, but the run's test sets are "
                f"{', '.join(names) or 'none'}"
            )
    datasets = {n: one.partition("#")[0] for n, one in benchmarks.items()}
    if pool:
        datasets[POOL] = pool
    for source in datasets.values():
        check_id(source.partition(":")[0], "a dataset")
    return datasets


def check_id(name: str, what: str) -> None:
    """Refuse what cannot be a hub id."""
    if not REPOSITORY.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot name {what} on the hub; write OWNER/NAME, of letters, "
            "digits, dots, dashes and underscores"
        )


def base_of_hub(run: FinishedRun, named: str) -> str:
    """Return the base's hub id; refuse a run without one."""
    known = run.config.model.name
    if not named and (Path(known).expanduser().exists() or known.count("/") != 1):
        raise ConfigError(
            "the run loaded its base from a folder or file; say with --base-model "
            "OWNER/NAME which model on the hub it is"
        )
    check_id(named or known, "the base")
    return named or known


def trained_files(run: FinishedRun, base: str) -> Iterator[tuple[str, Content]]:
    """Yield the trained files, with the base's path replaced by its id."""
    for name in sorted(run.manifest.outputs["adapter"].files):
        path = run.adapter / name
        if path.suffix == ".json":
            table = json.loads(path.read_bytes())
            if name == ADAPTER_SETTINGS:
                table |= {BASE: base, "revision": None}
            else:
                table.pop("_name_or_path", None)
                table.pop("name_or_path", None)
            yield name, (json.dumps(table, indent=2) + "\n").encode()
        else:
            yield name, path


def result_files(
    run: FinishedRun, benchmarks: Mapping[str, str]
) -> Iterator[tuple[str, Content]]:
    """Yield the results on registered benchmarks, a file each."""
    tests = {test.name: test for test in run.report.tests}
    for name, source in benchmarks.items():
        dataset, _, task = source.partition("#")
        if task:
            entry = result_entry(run, tests[name], dataset.partition(":")[0], task)
            text = yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False)
            yield f"{RESULTS}/{name}.yaml", str(text).encode()


def result_entry(
    run: FinishedRun, test: TestComparison, dataset: str, task: str
) -> Any:
    """Return an accuracy in percent, with how it was measured."""
    config = run.config
    return EvalResultEntry(
        dataset_id=dataset,
        task_id=task,
        value=round(100.0 * test.after.metrics["avg_at_k"], 2),
        notes=(
            f"mean accuracy of {config.evaluation.num_samples} samples for each of "
            f"{test.num_questions} questions at temperature "
            f"{config.evaluation.temperature}, without examples in the prompt"
        ),
    )


def push(found: Package, *, private: bool = False, update: bool = False) -> str:
    """Send what was put together, as one commit; return its address.

    Args:
        found: What `prepare_push` returned.
        private: Whether a new repository is visible only to its owner.
        update: Whether to add a commit to an existing repository.

    Raises:
        ConfigError: If the hub refuses, or the repository exists.
        TryAgainError: If it cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    operations = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=content)
        for name, content in found.files.items()
    ]
    with hub_errors(found.repo):
        api = HfApi(library_name="neuron-opsd")
        api.create_repo(found.repo, private=private, exist_ok=update)
        done = api.create_commit(found.repo, operations, commit_message=MESSAGE)
    return str(done.commit_url)


@contextmanager
def hub_errors(repo: str) -> Iterator[None]:
    """Turn what the hub's library raises into one line."""
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
    )

    try:
        yield
    except LocalTokenNotFoundError as error:
        raise ConfigError(
            "you are not logged in to the hub; run `hf auth login`, or set HF_TOKEN"
        ) from error
    except OfflineModeIsEnabled as error:
        raise ConfigError(
            "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE keeps the hub's library off the "
            "network; unset both and run the same command again"
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        raise refused(repo, status, first_line(error)) from error
    except connection_errors() as error:
        raise TryAgainError(
            f"the hub cannot be reached: {first_line(error)}; run the same command "
            "again"
        ) from error


def connection_errors() -> tuple[type[Exception], ...]:
    """Return the connection errors, also of loaded packages."""
    loaded = (sys.modules.get(name) for name in CLIENTS)
    return (OSError, *(one.HTTPError for one in loaded if one is not None))


def refused(repo: str, status: int, said: str) -> Exception:
    """Return the error to raise for an error reply of the hub."""
    if status in (401, 403):
        return ConfigError(
            f"the hub does not let you write to {repo} (status {status}); log in with "
            "`hf auth login`, with a token that may write there"
        )
    if status == 409:
        return ConfigError(
            f"{repo} exists; give --update to add a commit to it, or another name"
        )
    if status == 429 or status >= 500:
        return TryAgainError(
            f"the hub answered with status {status}: {said}; run the same command again"
        )
    return ConfigError(f"the hub refused {repo} with status {status}: {said}")
