"""Spot capacity: traces, policies, what interruptions cost, and a supervisor that reclaims a real job."""

from labkit.spot.availability import Availability, generate_availability, job_windows
from labkit.spot.goodput import expected_goodput
from labkit.spot.optimum import optimal_cost
from labkit.spot.planned import fit_chain, planned_policy
from labkit.spot.policies import greedy, on_demand, uniform_progress
from labkit.spot.readers import read_node_events, read_samples
from labkit.spot.simulation import Simulation, simulate_jobs
from labkit.spot.situation import IDLE, ON_DEMAND, SPOT, SpotJob

__all__ = [
    "IDLE",
    "ON_DEMAND",
    "SPOT",
    "Availability",
    "Simulation",
    "SpotJob",
    "expected_goodput",
    "fit_chain",
    "generate_availability",
    "greedy",
    "job_windows",
    "on_demand",
    "optimal_cost",
    "planned_policy",
    "read_node_events",
    "read_samples",
    "simulate_jobs",
    "uniform_progress",
]
