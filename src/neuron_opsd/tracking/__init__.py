"""What trackers of experiments are told of trainings; the only room that knows them."""
