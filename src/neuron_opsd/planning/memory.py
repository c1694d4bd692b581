"""What training and decoding hold in memory: plain arithmetic on a model's shapes.

Every term is named, so that a test can count what our own passes hold and compare. What
is counted here is what PyTorch is asked for; `RESERVE` is left for what it is not.

Axes: D residual width, V vocabulary. Everything is in bytes unless its name says
otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from neuron_opsd.models.outline import Layer, Outline, Product

Tuning: TypeAlias = Literal["lora", "qlora", "full"]

FLOAT: Final = 4
"""Bytes of a float32: masters, moments, gradients, logits and the residual stream."""

HALF: Final = 2
"""Bytes of a bfloat16."""

MOMENTS: Final = 2
"""Running means that AdamW keeps of each gradient."""

PACKED: Final = 0.5 + (1 + FLOAT / 256) / 64
"""Bytes of a weight in NF4: four bits, a scale in a byte for each 64, and a float32 for
256 of these.

Source: double quantisation of Dettmers et al., arXiv:2305.14314.
"""

SHARING: Final = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Linear layers that read one and the same input."""

LOGIT_COPIES: Final = 3
JSD_COPIES: Final = 5
"""Tensors of a chunk's logits held at once: student's, teacher's, and what a divergence
makes of them, which is more where both are mixed."""

FORWARD_COPIES: Final = 3
BACKWARD_COPIES: Final = 2
"""Tensors as wide as the widest layer that a pass holds besides its graph: the gate,
what its activation makes of it and the other branch; or two gradients."""

RESERVE: Final = 0.1
"""Share of a GPU left for CUDA's context, its libraries' buffers and fragmentation.

Taken, not measured.
"""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to train, as far as memory knows it."""

    tuning: Tuning = "lora"
    checkpointing: bool = False
    rank: int = 16
    chunk_positions: int = 128
    """Positions whose logits are held at once."""
    own_teacher: bool = True
    """Whether the teacher has weights of its own for what is trained."""
    product: int = HALF
    """Bytes of a number in matrix products."""
    logit_copies: int = LOGIT_COPIES
    """Tensors of a chunk's logits that the loss holds at once."""


@dataclass(frozen=True, slots=True)
class Static:
    """What training holds between passes."""

    base: int
    """Weights that passes run with, and that do not move."""
    rounded: int
    """Matrices and head once more in the type of products, if their file is finer."""
    masters: int
    """What is trained, in float32."""
    teacher: int
    gradients: int
    moments: int
    factors: int
    """An adapter's factors in the type of products, the student's and the teacher's."""
    columns: int
    """Room for an adapter beside every matrix."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.kept + self.gradients + self.factors // 2

    @property
    def kept(self) -> int:
        """What is held between steps as well; of the factors, those used last."""
        frozen = self.base + self.rounded + self.columns + self.factors // 2
        return frozen + self.masters + self.teacher + self.moments


@dataclass(frozen=True, slots=True)
class Saved:
    """What the graph of a pass with gradient holds, for each token."""

    stream: int
    """The residual stream where a checkpointed layer begins, over all layers."""
    layers: int
    """What the layers' own operations keep: of all, or with checkpointing of the one
    that is made again."""
    ends: int
    """After the last layer: its norm, and the states that are read out."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.stream + self.layers + self.ends

    @property
    def kept(self) -> int:
        """What stays from the forward pass: with checkpointing, no layer's own."""
        return self.ends + (self.stream or self.layers)


@dataclass(frozen=True, slots=True)
class Passes:
    """The tokens of a micro-batch."""

    student: int
    """Prompts and completions of the pass with gradient."""
    teacher: int
    """Prompts with demonstrations, and completions."""
    completion: int
    """Of them completions."""


@dataclass(frozen=True, slots=True)
class Peak:
    """What training holds at its fullest."""

    static: Static
    graph: int
    """Of the student's pass."""
    states: int
    """States that the loss reads, the teacher's and the student's, and a gradient."""
    logits: int
    working: int
    """What a layer needs while it is computed, beyond the room of the logits, which
    are gone by then."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.static.total + self.graph + self.states + self.logits + self.working


def static(outline: Outline, way: Way) -> Static:
    """Return what training holds between passes."""
    full = way.tuning == "full"
    rank = 0 if full else way.rank
    trained = outline.num_adapter_parameters(way.rank)
    if full:
        trained = outline.num_parameters
    return Static(
        # Where all weights learn, those that they began with are not held.
        base=0 if full else base_bytes(outline, way.tuning, way.product),
        rounded=0 if full else rounded_bytes(outline, way),
        masters=FLOAT * trained,
        teacher=FLOAT * trained if way.own_teacher else 0,
        gradients=FLOAT * trained,
        moments=MOMENTS * FLOAT * trained,
        factors=0 if full else 2 * way.product * trained,
        columns=way.product * rank * outline.num_outputs,
    )


def base_bytes(outline: Outline, tuning: Tuning = "lora", product: int = HALF) -> int:
    """Return the bytes of the frozen weights.

    They stand as in the model's files, or in float32 where products are in it; a 4-bit
    base packs its matrices.
    """
    matrices = outline.num_matrix_parameters if tuning == "qlora" else 0
    each = max(outline.file_bytes, product if tuning == "lora" else HALF)
    rest = outline.num_parameters - matrices
    return math.ceil(PACKED * matrices) + each * rest


def rounded_bytes(outline: Outline, way: Way) -> int:
    """Return what a copy for products takes of weights that their file holds finer."""
    if way.tuning == "qlora" or outline.file_bytes <= way.product:
        return 0
    head = outline.vocab_size * outline.width
    return way.product * (outline.num_matrix_parameters + head)


def saved(outline: Outline, way: Way) -> Saved:
    """Return what the graph of a pass keeps for each token.

    With checkpointing a layer keeps its input alone, and one layer at a time is made
    again with all that its operations keep.
    """
    each = [layer_saved(layer, outline, way) for layer in outline.layers]
    ends = norm_saved(outline.width, way)
    if not way.checkpointing:
        return Saved(stream=0, layers=sum(each), ends=ends)
    stream = FLOAT * outline.width * len(outline.layers)
    return Saved(stream=stream, layers=max(each), ends=ends)


def layer_saved(layer: Layer, outline: Outline, way: Way) -> int:
    """Return what one layer's operations keep for each token."""
    norms = sum(norm_saved(width, way) for width in layer.norms)
    inputs = sum(product_saved(p, way) for p in layer.products)
    if way.product == FLOAT:  # nothing is rounded, so all of a group keep one tensor
        inputs -= sum(shared_inputs(layer, group, way) for group in SHARING)
    attention = way.product * (layer.kept + queries(layer, outline))
    attention += FLOAT * outline.num_heads  # the logarithms of its sums
    return norms + inputs + attention + gate_saved(layer, way)


def norm_saved(width: int, way: Way) -> int:
    """Return what a norm keeps of a token: its input, and one over its size.

    Its own gain, where that learns, needs what it multiplies.
    """
    scaled = way.product * width if way.tuning == "full" else 0
    return FLOAT * (width + 1) + scaled


def product_saved(product: Product, way: Way) -> int:
    """Return what a linear layer with an adapter keeps of a token.

    A frozen one needs nothing of its input for the gradient that it hands on.
    """
    if not keeps(product, way):
        return 0
    rank = 0 if way.tuning == "full" else way.rank
    return way.product * (product.inputs + rank)


def shared_inputs(layer: Layer, group: tuple[str, ...], way: Way) -> int:
    """Return what linear layers of one input need not keep again."""
    found = [p.inputs for p in layer.products if p.name in group and keeps(p, way)]
    return way.product * sum(found[1:])


def keeps(product: Product, way: Way) -> bool:
    """Whether a linear layer keeps its input for the gradient of what is trained."""
    return product.adapted or way.tuning == "full"


def queries(layer: Layer, outline: Outline) -> int:
    """Return the numbers of a token's queries."""
    found = [p.outputs for p in layer.products if p.name == "q_proj"]
    return found[0] if found else outline.width


def gate_saved(layer: Layer, way: Way) -> int:
    """Return what a gated MLP keeps of a token besides the inputs of its products.

    These are the gate, the gate after its activation, and the other branch.
    """
    wide = [p.inputs for p in layer.products if p.name == "down_proj"]
    return 3 * way.product * sum(wide)


def peak(outline: Outline, way: Way, passes: Passes) -> Peak:
    """Return what training holds while one micro-batch is at its fullest.

    The teacher reads first, while no graph is held; its states stay.
    """
    graph = saved(outline, way).total * passes.student
    states = (2 * way.product + FLOAT) * outline.width * passes.completion
    positions = min(way.chunk_positions, passes.completion)
    logits = way.logit_copies * FLOAT * positions * outline.vocab_size
    matrix = 0  # the largest, while a product unpacks it
    if way.tuning == "qlora":
        matrix = HALF * max(product.num_parameters for product in outline.products())
    forward = matrix + working(outline, way, FORWARD_COPIES) * passes.teacher
    backward = matrix + working(outline, way, BACKWARD_COPIES) * passes.student
    # One after the other: the teacher's pass, the loss, the way back.
    more = max(backward, logits, forward - graph)
    return Peak(
        static=static(outline, way),
        graph=graph,
        states=states,
        logits=logits,
        working=max(0, more - logits),
    )


def working(outline: Outline, way: Way, copies: int) -> int:
    """Return what the widest layer holds for each token while it is computed."""
    wide = max(
        (p.outputs for layer in outline.layers for p in layer.products),
        default=outline.width,
    )
    # The stream and its gradient; a layer that runs again gives its output to nobody.
    streams = 1 if way.checkpointing else 2
    return streams * FLOAT * outline.width + copies * way.product * wide


def cache_bytes(outline: Outline, tokens: int, *, windowed: bool = False) -> int:
    """Return what keys and values of one sequence take, in bfloat16.

    Args:
        outline: Of the model.
        tokens: Length of the sequence.
        windowed: Whether positions out of a layer's window are let go of.
    """
    total = 0
    for layer in outline.layers:
        seen = layer.window if windowed and layer.window else tokens
        total += layer.kept * min(tokens, seen)
    return HALF * total
