"""What the job costs at least, by one who knows the whole trace beforehand: a bound that no policy can beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labkit.errors import UsageError
from labkit.spot.situation import IDLE, ON_DEMAND, SPOT, SpotJob

__all__ = ["optimal_cost"]

_NEVER = 1e12


def optimal_cost(job: SpotJob, windows: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The least money, in seconds of on-demand price, that meets the deadline; one a job. windows: (jobs, steps)

    Exact on the simulation's own steps, by going backwards over (step, work left, what runs). Who knows when a reclaim
    comes saves before it, so nothing is lost, and starts nothing that does not come to compute.
    """
    if windows.ndim != 2 or windows.shape[1] < job.deadline_steps:
        raise UsageError(f"windows must be (jobs, at least {job.deadline_steps} steps); got {windows.shape}.")
    num_jobs, work, restart = len(windows), job.work_steps, job.restart_steps
    last = job.deadline_steps
    never = np.full((3, num_jobs, work + 1), _NEVER)
    never[:, :, 0] = 0.0
    ahead = [never]  # the values at step + 1, step + 2, …, step + 1 + restart
    run_up = np.zeros(num_jobs, dtype=np.int64)  # steps for which spot stays, from this one
    for step in range(last - 1, -1, -1):
        run_up = np.where(windows[:, step], run_up + 1, 0)
        value = np.full_like(never, _NEVER)
        value[:, :, 0] = 0.0
        begins = ahead[restart] if restart < len(ahead) else None  # computes its first step at step + restart
        spot_begins = (run_up > restart)[:, None]
        on = 1.0 + ahead[0][ON_DEMAND][:, :-1]
        spot = np.where((run_up > 0)[:, None], job.spot_price + ahead[0][SPOT][:, :-1], _NEVER)
        start_on = start_spot = np.full((num_jobs, work), _NEVER)
        if begins is not None:
            start_on = (restart + 1) + begins[ON_DEMAND][:, :-1]
            start_spot = np.where(spot_begins, (restart + 1) * job.spot_price + begins[SPOT][:, :-1], _NEVER)
        idle = ahead[0][IDLE][:, 1:]
        for running, (with_spot, with_on) in enumerate(((start_spot, start_on), (spot, start_on), (start_spot, on))):
            value[running][:, 1:] = np.minimum(np.minimum(idle, with_spot), with_on)
        ahead = [value, *ahead[:restart]]
    return np.where(ahead[0][IDLE][:, work] < _NEVER / 2, ahead[0][IDLE][:, work] * job.step_s, np.inf)
