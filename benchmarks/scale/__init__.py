"""What fits where and how long it takes, as tables for docs/scale.md.

    python -m benchmarks.scale             # print them
    python -m benchmarks.scale --write     # put them into the page

Bytes are those of `neuron_opsd.planning`, as `neuron-opsd plan --gpu-memory` tells
them. Hours are computed here from what others have published; no GPU is needed.
"""
