"""How fast every stage is beside the tools that others would take for it.

    python -m benchmarks.speed --help

A *case* is one job; a *system* does it in a process of its own, ours or a peer's. All
are loaded first and warmed up; then repetitions go round, one of each system after the
other, so that whatever else the machine does meets all of them alike. The machine's own
rates are measured in the same round.

`cases` says what is compared, `prepare` makes the job, `driver` runs it, `tables` tells
what came out. `rollouts`, `choices`, `step`, `capture` and `machine` hold the systems.
"""
