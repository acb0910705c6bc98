"""The same split by torch's own parallelize_module: a plan names what becomes of each module; DTensor sends."""

from __future__ import annotations

from typing import Any

from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    PrepareModuleOutput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from labkit.models import Transformer
from labkit.parallel.tensor import local_config

__all__ = ["parallelize"]


def parallelize(model: Transformer, mesh: DeviceMesh, *, sequence_parallel: bool = False) -> Transformer:
    """Split ``model`` in place over a one-dimensional mesh; its parameters become DTensors.

    UsageError where the mesh does not divide heads, KV heads or the MLP's inner units. Tokens are (B, T), and with
    sequence_parallel the mesh divides T.
    """
    local_config(model.config, mesh.size())
    plan: dict[str, ParallelStyle] = {}
    for index in range(model.config.num_hidden_layers):
        plan |= {f"layers.{index}.{name}": style for name, style in _layer_plan(sequence_parallel).items()}
    if sequence_parallel:  # embedding, last norm and head stay whole
        plan["embed_tokens"] = PrepareModuleOutput(output_layouts=Replicate(), desired_output_layouts=Shard(1))
        plan["norm"] = PrepareModuleInput(
            input_layouts=Shard(1), desired_input_layouts=Replicate(), use_local_output=True
        )
    parallelize_module(model, mesh, plan)
    return model


def _layer_plan(sequence_parallel: bool) -> dict[str, ParallelStyle]:
    columns = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj")
    between: Any = Shard(1) if sequence_parallel else Replicate()
    plan: dict[str, ParallelStyle] = {name: ColwiseParallel() for name in columns}
    plan |= {name: RowwiseParallel(output_layouts=between) for name in ("self_attn.o_proj", "mlp.down_proj")}
    # One DTensor enters a layer, so that its products' gradients are added up before they are sent. Without this the
    # plan above is as right, and sends seven times a layer instead of four: for each of q, k, v, gate and up.
    plan["self_attn"] = _entered((between, None, None, None), (Replicate(), None, None, None))  # x, cos, sin, attend
    plan["mlp"] = _entered((between,), (Replicate(),))
    if sequence_parallel:
        plan |= {name: SequenceParallel() for name in ("input_layernorm", "post_attention_layernorm")}
    return plan


def _entered(given: Any, wanted: Any) -> PrepareModuleInput:
    return PrepareModuleInput(input_layouts=given, desired_input_layouts=wanted, use_local_output=False)
