"""Experiment trackers; the only room that imports them."""

from typing import Literal, TypeAlias

TrackerName: TypeAlias = Literal["trackio", "tensorboard", "wandb", "mlflow"]
