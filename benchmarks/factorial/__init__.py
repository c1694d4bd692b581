"""Selections and contexts taken apart: the factorial experiment.

    python -m benchmarks.factorial --out runs/factorial              # all of it
    python -m benchmarks.factorial --out runs/reduced --reduced      # ten minutes
    python -m benchmarks.factorial --out runs/factorial --sources sst2 --seeds 1
    python -m benchmarks.factorial --out runs/factorial --parts long
    python -m benchmarks.factorial.tables runs/factorial

It fetches what it needs and calls `neuron-opsd compare --recipe recipes/factorial.toml`
once per part and source. The same command goes on where it was stopped. Started twice,
each time with OMP_NUM_THREADS=1, it is shared by two processes: each takes the seeds of
a source that the other does not hold, and then the next source. `--reduced` tries all
of it out on questions of no test. What was expected before it ran is in
docs/lab-notebook/results.md.
"""
