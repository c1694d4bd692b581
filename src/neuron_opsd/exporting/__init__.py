"""Turn a finished run into files for other programs, one module per target.

`targets.TARGETS` lists them. A target's function, mostly `write`, gets a finished run
and fills an empty folder; `export.export` does what all share: it checks that the run
is complete and finished, and writes the folder whole or not at all.
"""
