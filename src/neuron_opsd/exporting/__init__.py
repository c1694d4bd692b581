"""What a finished run becomes for other programs: one module and one entry a target.

`targets.TARGETS` names them all. A target's module has a function, mostly
`write`, which gets a finished run and fills an empty folder; `export.export` does what
all share: the run must be whole and finished, and the folder comes whole or not at all.
"""
