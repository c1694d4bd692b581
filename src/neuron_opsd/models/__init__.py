"""The only entry point to model weights: roles for stages, and their engine.

Nothing outside imports transformers, peft or the classes that implement the roles.
`refuse_...` and `check_...` raise `ModelError`.
"""
