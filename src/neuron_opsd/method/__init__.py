"""The method itself: arrays and tensors in and out, no files and no weights."""
