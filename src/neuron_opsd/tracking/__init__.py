"""What trackers of experiments are told of trainings; the only room that knows them."""

from typing import Literal, TypeAlias

TrackerName: TypeAlias = Literal["trackio", "tensorboard", "wandb", "mlflow"]
