"""The stages of a run: from records and settings to records."""
