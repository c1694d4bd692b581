"""The names of the trackers, apart from all that a help page has no need of."""

from __future__ import annotations

from typing import Literal, TypeAlias

TrackerName: TypeAlias = Literal["trackio", "tensorboard", "wandb", "mlflow"]
