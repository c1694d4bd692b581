"""What training and decoding hold in memory, by a model's shapes.

Every term has a name, so that a test can compare it with our passes. Terms count what
PyTorch is asked for; `RESERVE` covers the rest.

Axes: D residual width, V vocabulary. Units are bytes unless a name says otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from neuron_opsd.models.outline import Layer, Outline, Product

Tuning: TypeAlias = Literal["lora", "qlora", "full"]

FLOAT: Final = 4
"""Bytes of a float32: masters, moments, gradients, logits, residual stream."""

HALF: Final = 2
"""Bytes of a bfloat16."""

MOMENTS: Final = 2
"""Running means AdamW keeps per gradient."""

PACKED: Final = 0.5 + (1 + FLOAT / 256) / 64
"""Bytes of an NF4 weight: four bits, a byte of scale per 64, a float32 per 256 scales.

Source: double quantisation of Dettmers et al., arXiv:2305.14314."""

SHARING: Final = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Linear layers that share their input."""

LOGIT_COPIES: Final = 3
JSD_COPIES: Final = 5
"""Tensors of a chunk's logits held at once: student's, teacher's and the divergence's
intermediates, more if both are mixed."""

FORWARD_COPIES: Final = 3
BACKWARD_COPIES: Final = 2
"""Tensors as wide as the widest layer, besides the graph: gate, activated gate and
other branch; or two gradients."""

RESERVE: Final = 0.1
"""Share of a GPU for CUDA's context, library buffers and fragmentation.

Assumed, not measured."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to train, as far as memory is concerned."""

    tuning: Tuning = "lora"
    checkpointing: bool = False
    rank: int = 16
    chunk_positions: int = 128
    """Positions whose logits are held at once."""
    own_teacher: bool = True
    """Whether the teacher has separate trained weights."""
    product: int = HALF
    """Bytes of a number in matrix products."""
    logit_copies: int = LOGIT_COPIES
    """Tensors of a chunk's logits that the loss holds at once."""


@dataclass(frozen=True, slots=True)
class Static:
    """What training holds between passes."""

    base: int
    """Frozen weights used in passes."""
    rounded: int
    """Matrices and head copied to the product type, if stored finer."""
    masters: int
    """Trained weights in float32."""
    teacher: int
    gradients: int
    moments: int
    factors: int
    """Adapter factors in the product type, student's and teacher's."""
    columns: int
    """Room for an adapter at every matrix."""

    @property
    def total(self) -> int:
        """Sum of all."""
        return self.kept + self.gradients + self.factors // 2

    @property
    def kept(self) -> int:
        """What is held between steps too; of the factors, the last used."""
        frozen = self.base + self.rounded + self.columns + self.factors // 2
        return frozen + self.masters + self.teacher + self.moments


@dataclass(frozen=True, slots=True)
class Saved:
    """What the graph of a pass with gradient holds per token."""

    stream: int
    """Inputs of all checkpointed layers in the residual stream."""
    layers: int
    """What operations of all layers keep or, with checkpointing, of the one being
    recomputed."""
    ends: int
    """After the last layer: its norm, and the states that are read."""

    @property
    def total(self) -> int:
        """Sum of all."""
        return self.stream + self.layers + self.ends

    @property
    def kept(self) -> int:
        """What the forward pass leaves; with checkpointing, no layer operations."""
        return self.ends + (self.stream or self.layers)


@dataclass(frozen=True, slots=True)
class Passes:
    """The tokens of a micro-batch."""

    student: int
    """Prompts and completions of the pass with gradient."""
    teacher: int
    """Prompts with demonstrations, and completions."""
    completion: int
    """Completions alone."""


@dataclass(frozen=True, slots=True)
class Peak:
    """What training holds at its peak."""

    static: Static
    graph: int
    """Of the student's pass."""
    states: int
    """Teacher's and student's states read by the loss, and a gradient."""
    logits: int
    working: int
    """What a layer needs while computing, beyond the logits' room, free by then."""

    @property
    def total(self) -> int:
        """Sum of all."""
        return self.static.total + self.graph + self.states + self.logits + self.working


def static(outline: Outline, way: Way) -> Static:
    """Return what training holds between passes."""
    full = way.tuning == "full"
    rank = 0 if full else way.rank
    trained = outline.num_adapter_parameters(way.rank)
    if full:
        trained = outline.num_parameters
    return Static(
        # If all weights are trained, the initial ones are not kept.
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

    Typed as in the model's files, or float32 if products are; a 4-bit base packs its
    matrices.
    """
    matrices = outline.num_matrix_parameters if tuning == "qlora" else 0
    each = max(outline.file_bytes, product if tuning == "lora" else HALF)
    rest = outline.num_parameters - matrices
    return math.ceil(PACKED * matrices) + each * rest


def rounded_bytes(outline: Outline, way: Way) -> int:
    """Return the bytes of product-type copies of finer weights."""
    if way.tuning == "qlora" or outline.file_bytes <= way.product:
        return 0
    head = outline.vocab_size * outline.width
    return way.product * (outline.num_matrix_parameters + head)


def saved(outline: Outline, way: Way) -> Saved:
    """Return what the graph of a pass keeps per token.

    With checkpointing layers keep only their inputs, and one at a time is recomputed
    with all that its operations keep.
    """
    each = [layer_saved(layer, outline, way) for layer in outline.layers]
    ends = norm_saved(outline.width, way)
    if not way.checkpointing:
        return Saved(stream=0, layers=sum(each), ends=ends)
    stream = FLOAT * outline.width * len(outline.layers)
    return Saved(stream=stream, layers=max(each), ends=ends)


def layer_saved(layer: Layer, outline: Outline, way: Way) -> int:
    """Return what one layer's operations keep per token."""
    norms = sum(norm_saved(width, way) for width in layer.norms)
    inputs = sum(product_saved(p, way) for p in layer.products)
    if way.product == FLOAT:  # nothing is rounded, so the whole group keeps one tensor
        inputs -= sum(shared_inputs(layer, group, way) for group in SHARING)
    attention = way.product * (layer.kept + queries(layer, outline))
    attention += FLOAT * outline.num_heads  # log-sums
    return norms + inputs + attention + gate_saved(layer, way)


def norm_saved(width: int, way: Way) -> int:
    """Return what a norm keeps per token: its input and inverse size.

    A trained gain also needs what it multiplies.
    """
    scaled = way.product * width if way.tuning == "full" else 0
    return FLOAT * (width + 1) + scaled


def product_saved(product: Product, way: Way) -> int:
    """Return what a linear layer with an adapter keeps per token.

    A frozen one needs no input for the gradient it passes on.
    """
    if not keeps(product, way):
        return 0
    rank = 0 if way.tuning == "full" else way.rank
    return way.product * (product.inputs + rank)


def shared_inputs(layer: Layer, group: tuple[str, ...], way: Way) -> int:
    """Return what layers with a shared input need not keep twice."""
    found = [p.inputs for p in layer.products if p.name in group and keeps(p, way)]
    return way.product * sum(found[1:])


def keeps(product: Product, way: Way) -> bool:
    """Whether a linear layer keeps its input for the gradient."""
    return product.adapted or way.tuning == "full"


def queries(layer: Layer, outline: Outline) -> int:
    """Return the size of a token's queries."""
    found = [p.outputs for p in layer.products if p.name == "q_proj"]
    return found[0] if found else outline.width


def gate_saved(layer: Layer, way: Way) -> int:
    """Return what a gated MLP keeps per token besides product inputs.

    The gate, the activated gate and the other branch.
    """
    wide = [p.inputs for p in layer.products if p.name == "down_proj"]
    return 3 * way.product * sum(wide)


def peak(outline: Outline, way: Way, passes: Passes) -> Peak:
    """Return what training holds at the peak of one micro-batch.

    The teacher reads first, before any graph exists; its states stay.
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
    # In sequence: teacher's pass, loss, backward pass.
    more = max(backward, logits, forward - graph)
    return Peak(
        static=static(outline, way),
        graph=graph,
        states=states,
        logits=logits,
        working=max(0, more - logits),
    )


def working(outline: Outline, way: Way, copies: int) -> int:
    """Return what the widest layer holds per token while computing."""
    wide = max(
        (p.outputs for layer in outline.layers for p in layer.products),
        default=outline.width,
    )
    # The stream and its gradient; a recomputed layer discards its output.
    streams = 1 if way.checkpointing else 2
    return streams * FLOAT * outline.width + copies * way.product * wide


def cache_bytes(outline: Outline, tokens: int, *, windowed: bool = False) -> int:
    """Return the bytes of a sequence's keys and values, in bfloat16.

    Args:
        outline: The model's.
        tokens: Sequence length.
        windowed: Whether positions outside a layer's window are dropped.
    """
    total = 0
    for layer in outline.layers:
        seen = layer.window if windowed and layer.window else tokens
        total += layer.kept * min(tokens, seen)
    return HALF * total
