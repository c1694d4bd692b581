"""Prompts into tokens and back: tokenizer, chat template, endings."""
