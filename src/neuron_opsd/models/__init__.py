"""The only entry point to model weights: roles that stages use, and their engine.

Nothing outside imports transformers, peft or the classes that implement the roles.
`refuse_...` and `check_...` functions raise `ModelError` on what they are named after.
"""
