"""The one doorway to weights: roles that stages ask for, and the engine behind them.

Nothing outside imports transformers, peft, or the classes that fulfil the roles. What
is named `refuse_...` or `check_...` raises `ModelError` over what it is named after.
"""
