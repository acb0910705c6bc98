"""The moments of a training step at which a device's memory can peak, each with what is then held.

Stages 2 and 3 are counted as torch's ``fully_shard`` runs them when each block is a group of its own and the rest is
one more: this block and the next gathered, the previous one's gradients being reduced, the head's gradient waiting.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from labkit.parallel.activations import Activations
from labkit.parallel.precision import Precision
from labkit.parallel.shape import ModelShape

__all__ = ["CLASSES", "MemoryUse", "StagePart", "moments", "stage_parts"]

CLASSES = ("weights", "gradients", "optimizer", "activations", "gathered")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """Bytes on one device at its worst moment. gathered: unsharded weights, and buffers of collectives."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    gathered: float
    moment: str = ""

    @property
    def total_bytes(self) -> float:
        return self.state_bytes + self.activations + self.gathered

    @property
    def state_bytes(self) -> float:
        """Weights, gradients and optimizer: what ZeRO shards."""
        return self.weights + self.gradients + self.optimizer

    @property
    def by_class(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in CLASSES}


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePart:
    """One pipeline stage: parameters a block and outside of blocks, and the micro-batches that it holds.

    padded: the same as they are gathered, for ``fully_shard`` cuts each tensor by rows, as many on every rank.
    """

    num_layers: int
    layer: float
    root: float
    padded_layer: float
    padded_root: float
    head: float  # of root, what turns into logits; 0 where this stage has no loss
    down: float  # of a block, the MLP's last matrix, whose gradient comes first
    in_flight: float


def stage_parts(shape: ModelShape, tp: int, pp: int, in_flight: float, dp: int = 1) -> list[StagePart]:
    """The fullest stages of a pipeline: the first, with the embedding, and the last, with the head.

    dp: the ranks among which rows are cut; the default counts no padding.
    """
    h, table = shape.hidden_size, shape.vocab_size * shape.hidden_size / tp
    norms = shape.layer_params - shape.layer_matrix_params  # whole on every tensor-parallel rank
    positions = shape.num_positions * h
    last_norm = shape.num_params - shape.num_layers * shape.layer_params - shape.embedding_params
    layer = shape.layer_matrix_params / tp + norms
    q_size, kv_size = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    into_mlp, inner = shape.num_mlp_matrices - 1, shape.intermediate_size
    cuts = (  # rows of a tensor, and numbers a row in all tensors that have so many
        (q_size / tp, h),
        (kv_size / tp, 2 * h),
        (inner / tp, into_mlp * h),
        (h, (q_size + inner) / tp + norms / h),
    )
    padded_layer = layer + sum(_missing(rows, dp) * width for rows, width in cuts)

    def part(root: float, tables: int, head: float, held: float) -> StagePart:
        return StagePart(
            num_layers=-(-shape.num_layers // pp),
            layer=layer,
            root=root,
            padded_layer=padded_layer,
            padded_root=root + _missing(shape.vocab_size / tp, dp) * h * tables + _missing(h, dp) * (head > 0),
            head=head,
            down=h * inner / tp,
            in_flight=held,
        )

    if pp == 1:
        tables = 1 if shape.tied else 2
        return [part(table * tables + positions + last_norm, tables, table, in_flight)]
    return [part(table + positions, 1, 0.0, in_flight), part(table + last_norm, 1, table, 1.0)]


def _missing(rows: float, dp: int) -> float:
    """Rows of padding until dp divides them."""
    return -rows % dp


def moments(part: StagePart, acts: Activations, bits: Precision, dp: int, stage: int) -> Iterator[MemoryUse]:
    """The moments that can be the worst of a step, each as what is then held."""
    layers, layer, root = part.num_layers, part.layer, part.root
    params = layers * layer + root
    whole = stage < 2 or (stage == 2 and not bits.gathers)  # nothing is gathered: the weights are here
    wide, wide_root = (part.padded_layer, part.padded_root) if bits.gathers else (layer, root)  # as it is sent
    cut = (layers * wide + wide_root) / dp
    weights = bits.weight_bytes * (params if whole else cut)
    optimizer = bits.optimizer_bytes * (cut if stage else params)
    waiting = (part.in_flight - 1) * layers * acts.kept  # of micro-batches whose backward comes later
    c, r, g = bits.compute_bytes, bits.reduce_bytes, bits.gradient_bytes

    def use(moment: str, gradients: float, activations: float, gathered: float, buffer: float = 0.0) -> MemoryUse:
        if stage < 2:  # whole gradients, kept from the first micro-batch to the step, reduced in place
            gradients, buffer = params * g, 0.0
        return MemoryUse(
            weights=weights,
            gradients=gradients,
            optimizer=optimizer,
            activations=activations,
            gathered=(0.0 if whole else c * gathered) + buffer,
            moment=moment,
        )

    kept = layers * acts.kept + waiting
    # The forward's last gather: its buffer, the block copied out of it, and the buffer before, which a stream may need.
    before = kept - acts.kept + acts.stream
    yield use("the last block is gathered", 0.0, before, wide_root + (2 + (layers if stage == 2 else 1)) * wide)
    if part.head:
        blocks = layers * wide if stage == 2 else 0.0
        yield use("the loss's backward", 0.0, kept + acts.loss, blocks and blocks + wide_root)
        yield use("the head is gathered", 0.0, kept + acts.head, blocks + wide_root * (2 if stage == 3 else 1))
        yield use("the head's backward", c * part.head, kept + acts.head + acts.stream, wide_root + (blocks or wide))
    for done in sorted({0, 1, layers - 2, layers - 1} & set(range(layers))):  # blocks whose backward is over
        left = layers - done
        sharded = done * wide * g / dp
        kept = (left - 1) * acts.kept + waiting
        gathered = wide_root + (left if stage == 2 else min(left, 2)) * wide  # at stage 3 this block and the next
        arrived = wide_root + 2 * wide if stage == 3 else gathered  # a buffer, and the block copied out of it
        yield use("a block is gathered", c * part.head + sharded, kept + acts.kept, arrived, done and r * wide)
        first = c * (part.head + part.down) + sharded
        yield use("a block's backward", first, kept + acts.layer + acts.block_backward, gathered, done and r * wide)
        last = c * (part.head + layer) + sharded
        yield use("a block's last gradient", last, kept + 2 * acts.stream, gathered, done and r * wide)
    sharded = layers * wide * g / dp
    yield use("the last backward", c * root + sharded, 2 * acts.stream + waiting, wide_root, r * wide)
    yield use("the last reduce-scatter", c * root + sharded, acts.stream + waiting, 0.0, r * wide_root)
    yield use("the optimizer's step", cut * g, 0.0, 0.0)
