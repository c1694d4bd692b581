"""Results as words, charts, self-contained pages and a model card.

Every function here is pure: records in, text out. ``run_page``, ``comparison_page`` and
``analysis_page`` render the pages; callers write the files.
"""
