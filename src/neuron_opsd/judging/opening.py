"""Opening a file of samples: rows of a table, or an inspect log in either form."""

from __future__ import annotations

from pathlib import Path

from neuron_opsd.config import QuestionsConfig
from neuron_opsd.data.question_files import READERS, open_table, refuse_no_file
from neuron_opsd.data.rows import Table
from neuron_opsd.errors import DataError


def open_samples(path: Path, config: QuestionsConfig) -> Table:
    """Return the rows of a file of samples, which is read as they are asked for.

    Raises:
        DataError: If the file is missing, no file, or of no known format.
    """
    refuse_no_file(path)
    if not path.name.lower().endswith(tuple(READERS)):
        raise DataError(
            f"{path} is no file of samples; allowed are {', '.join(READERS)}"
        )
    return open_table(path, config)
