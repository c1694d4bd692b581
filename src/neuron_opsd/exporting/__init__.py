"""Turn a finished run into files for other programs, one module per target.

`targets.TARGETS` lists them. A target's function, mostly `write`, gets a finished run
and fills an empty folder; `export.export` checks the run, and writes the folder whole
or not at all.
"""
