"""A readable inference engine: scheduler, KV blocks, model runner, sampler."""

from labkit.serving.engine.blocks import BlockPool
from labkit.serving.engine.engine import run_engine
from labkit.serving.engine.events import Answer, EngineRun, Seat, Step
from labkit.serving.engine.modelled import ModelledRunner
from labkit.serving.engine.policies import POLICIES, Policy, continuous, naive, static
from labkit.serving.engine.runner import ModelRunner, Runner
from labkit.serving.engine.sampler import sample

__all__ = [
    "POLICIES",
    "Answer",
    "BlockPool",
    "EngineRun",
    "ModelRunner",
    "ModelledRunner",
    "Policy",
    "Runner",
    "Seat",
    "Step",
    "continuous",
    "naive",
    "run_engine",
    "sample",
    "static",
]
