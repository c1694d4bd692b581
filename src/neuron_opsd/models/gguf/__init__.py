"""GGUF files, turned once into a plain folder that loads in a moment and can learn.

Nothing of a file is passed over: each tensor becomes a weight and each weight has its
tensor; each key that changes what the model computes is used; what cannot be done is
refused with its name and value. transformers' own reader drops what it does not know
and guesses the pre-tokenizer.
"""

from neuron_opsd.models.gguf.convert import CONVERSION, convert_gguf, unpacked
from neuron_opsd.models.gguf.file import is_gguf

__all__ = ["CONVERSION", "convert_gguf", "is_gguf", "unpacked"]
