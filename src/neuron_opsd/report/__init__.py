"""Results turned into words, charts, self-contained pages and a model card.

Every function here is pure: records in, text out. Each page has a module to render it,
``run_page``, ``comparison_page`` and ``analysis_page``; others write the files.
"""
