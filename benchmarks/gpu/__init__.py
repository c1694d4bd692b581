"""Every row that only a GPU can give, by one command.

    python -m benchmarks.gpu --vllm ENVIRONMENT/bin/python

It writes a model of a published configuration with random weights, since neither memory
nor speed depends on their values, and measures what `docs/scale.md` computes: memory of
a step, rollouts, a training step, capture, and how a run scales over GPUs. Tables go to
docs/lab-notebook/benchmarks.md.

    python -m benchmarks.gpu --device cpu --tiny    # every row at a tiny size
    python -m benchmarks.gpu --dry-run              # the rows, none measured

Systems and the way they take turns are those of `benchmarks.speed`.
"""
