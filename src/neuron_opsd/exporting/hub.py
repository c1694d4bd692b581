"""Sending a publication to the hub: the one place here that asks for the network."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from neuron_opsd.documents import first_line
from neuron_opsd.errors import ConfigError, TryAgainError
from neuron_opsd.exporting.publication import Package

MESSAGE: Final = "Add what neuron-opsd trained and measured"

CLIENTS: Final = ("httpx", "httpx2")
"""Packages through which versions of the hub's library reach it; what they raise over
a connection is no `OSError`."""


def push(found: Package, *, private: bool = False, update: bool = False) -> str:
    """Send what was put together, as one commit; return its address.

    Args:
        found: What `prepare_push` returned.
        private: Whether a new repository is one that only its owner sees.
        update: Whether a repository that exists gets another commit.

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
    """Return what is raised over a connection, by the packages that are loaded too."""
    loaded = (sys.modules.get(name) for name in CLIENTS)
    return (OSError, *(one.HTTPError for one in loaded if one is not None))


def refused(repo: str, status: int, said: str) -> Exception:
    """Return what to raise where the hub answered with an error."""
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
