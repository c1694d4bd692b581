"""Convert GGUF files once into plain folders that load fast and can be trained.

Nothing is skipped: tensors and weights match one to one, every key that affects
computation is used, and anything else is refused by name and value. transformers'
reader drops what it does not know and guesses the pre-tokenizer.
"""

from neuron_opsd.models.gguf.convert import CONVERSION, convert_gguf, unpacked
from neuron_opsd.models.gguf.file import is_gguf

__all__ = ["CONVERSION", "convert_gguf", "is_gguf", "unpacked"]
