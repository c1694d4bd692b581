"""Selections and contexts taken apart: the factorial experiment.

    python -m benchmarks.factorial --out runs/factorial              # all of it
    python -m benchmarks.factorial --out runs/reduced --reduced      # ten minutes
    python -m benchmarks.factorial --out runs/factorial --sources sst2 --seeds 0 1
    python -m benchmarks.factorial --out runs/factorial --parts long
    python -m benchmarks.factorial --out runs/factorial --keep results
    python -m benchmarks.factorial.tables runs/factorial

It fetches what it needs and calls
`neuron-opsd compare --recipe recipes/factorial.toml` once for every block: a source
with a seed. The same command resumes where it was stopped. Started twice, each time
with OMP_NUM_THREADS=1, it is shared by two processes: each takes a block that the other
does not hold. With `--keep` the results of finished blocks are copied to a folder, and
on another machine they are not run again. `--reduced` tries all of it out on questions
of no test. What was expected before it ran is in docs/lab-notebook/results.md.
"""
