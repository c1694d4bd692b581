"""Prompts to tokens and back: tokenizer, chat template, endings."""
