"""One transformer over several ranks: every rank holds some heads and some of the MLP's inner units of every layer.

The first product of a pair is split by columns, the second by rows, so that nothing is sent between them (Shoeybi et
al. 2019, Megatron-LM, section 3). Norms, embedding and head are whole on every rank.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.errors import UsageError
from labkit.models import Attend, Transformer, TransformerConfig
from labkit.models.transformer import Block
from labkit.parallel import regions
from labkit.parallel.agreement import check_agreement, fingerprint
from labkit.parallel.heads import need_divided
from labkit.parallel.regions import Group

__all__ = ["SharedBlock", "TensorParallel", "join_states", "local_config", "split_state"]

COLUMN = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")  # rows of an nn.Linear's weight are its outputs
ROW = ("o_proj", "down_proj")


def local_config(config: TransformerConfig, world_size: int) -> TransformerConfig:
    """What one of ``world_size`` ranks holds. UsageError where they do not divide heads, KV heads or inner units."""
    need_divided(
        {
            "num_heads": config.num_attention_heads,
            "num_kv_heads": config.num_key_value_heads,
            "intermediate_size": config.intermediate_size,
        },
        world_size,
    )
    return replace(
        config,
        num_attention_heads=config.num_attention_heads // world_size,
        num_key_value_heads=config.num_key_value_heads // world_size,
        intermediate_size=config.intermediate_size // world_size,
        explicit_head_dim=config.head_dim,
    )


def split_state(state: Mapping[str, Tensor], rank: int, world_size: int) -> dict[str, Tensor]:
    """Rank ``rank``'s own part of a whole model's tensors (weights or gradients), by the same names; copies."""
    parts = {}
    for name, whole in state.items():
        dim = _split_dim(name)
        part = whole if dim is None else whole.tensor_split(world_size, dim)[rank]
        parts[name] = part.detach().clone(memory_format=torch.contiguous_format)
    return parts


def join_states(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The whole model's tensors from those of all ranks, in their order: the inverse of ``split_state``."""
    whole = {}
    for name, first in states[0].items():
        dim = _split_dim(name)
        whole[name] = first if dim is None else torch.cat([state[name] for state in states], dim)
    return whole


def _split_dim(name: str) -> int | None:
    module = name.rpartition(".")[0].rpartition(".")[2]  # "layers.0.mlp.up_proj.weight" -> "up_proj"
    return 0 if module in COLUMN else 1 if module in ROW else None


class SharedBlock(Block):
    """A block of which this rank computes its own heads and inner units: two layers, each with its two ends."""

    def __init__(self, config: TransformerConfig, layer: int, group: Group, sequence_parallel: bool) -> None:
        super().__init__(config, layer)
        self.group, self.enter, self.leave = group, regions.copy_to_region, regions.reduce_from_region
        if sequence_parallel:
            self.enter, self.leave = regions.gather_from_sequence, regions.reduce_scatter_to_sequence
            self.input_layernorm = _SharedNorm(config.hidden_size, config.rms_norm_eps, group)
            self.post_attention_layernorm = _SharedNorm(config.hidden_size, config.rms_norm_eps, group)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        inside = self.enter(self.input_layernorm(x), self.group)  # (B, T, H) whole, whatever x is
        x = x + self.leave(self.self_attn(inside, cos, sin, attend), self.group)
        inside = self.enter(self.post_attention_layernorm(x), self.group)
        return x + self.leave(self.mlp(inside), self.group)


class _SharedNorm(nn.RMSNorm):
    """A norm of this rank's own tokens: the gradient of its weight is the sum over all ranks' tokens."""

    def __init__(self, hidden_size: int, eps: float, group: Group) -> None:
        super().__init__(hidden_size, eps)
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        weight = regions.copy_to_region(self.weight, self.group)
        return F.rms_norm(x, list(self.normalized_shape), weight, self.eps)


class TensorParallel(Transformer):
    """This rank's part of a whole model: the same call, the same logits on every rank, some of the weights.

    Made by all ranks of ``group`` together, from the same model. sequence_parallel: between layers every rank keeps
    its own tokens only. UsageError: sizes that the ranks do not divide, mixed dtypes, ranks whose models differ, and
    at the first call ranks whose tokens differ.
    """

    def __init__(self, model: Transformer, group: Group = None, *, sequence_parallel: bool = False) -> None:
        rank, world_size = dist.get_rank(group), dist.get_world_size(group)
        config, state = local_config(model.config, world_size), model.state_dict()
        dtypes = sorted({str(tensor.dtype) for tensor in state.values()})
        if len(dtypes) > 1:
            raise UsageError(
                f"The ranks add their parts up, so a model's weights must have one dtype; got {' and '.join(dtypes)}. "
                "Convert it with model.to(dtype) first."
            )
        mine = {"config": model.config, "dtype": dtypes[0], "sequence_parallel": sequence_parallel}
        check_agreement(mine, "Tensor parallelism splits one model", group)
        with torch.device("meta"):  # no memory, no random numbers: the model's tensors become the parameters
            super().__init__(config)
            self.layers = nn.ModuleList(
                SharedBlock(config, layer, group, sequence_parallel) for layer in range(config.num_hidden_layers)
            )
        self.load_state_dict(split_state(state, rank, world_size), assign=True)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.embed_tokens.weight
        self.requires_grad_(any(parameter.requires_grad for parameter in model.parameters()))
        self.train(model.training)
        self.group, self._agreed = group, False
        if sequence_parallel:
            self.embed_tokens.register_forward_hook(lambda _, __, x: regions.split_to_sequence(x, group))
            self.norm.register_forward_pre_hook(lambda _, given: regions.join_from_sequence(given[0], group))

    def hidden(self, tokens: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """As of a whole model: (..., T) -> (..., T, hidden_size), on every rank."""
        if not self._agreed:  # once: later steps should send nothing but activations
            check_agreement(fingerprint(tokens), "Tensor-parallel ranks compute the same tokens", self.group)
            self._agreed = True
        return super().hidden(tokens, *args, **kwargs)
