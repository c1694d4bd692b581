"""Results as words, charts, self-contained pages and a model card.

Every function is pure: records in, text out. Callers write the files.
"""
