"""How the driver of a launch reaches Ray. What it does there: test_ray.py."""

from __future__ import annotations

import pytest

from labkit.launch import ray_driver


class Ray:
    """Refuses the first ``refusals`` clients, as Ray's server of clients does when its start took too long."""

    def __init__(self, refusals: int) -> None:
        self.refusals, self.asked = refusals, 0

    def init(self, address: str, *, log_to_driver: bool) -> None:
        self.asked += 1
        if self.asked <= self.refusals:
            raise ConnectionAbortedError("Initialization failure from server:")


@pytest.mark.parametrize(("refusals", "asked"), [(0, 1), (1, 2)])
def test_a_client_refused_once_asks_again(refusals: int, asked: int) -> None:
    ray = Ray(refusals)
    ray_driver._connect(ray, "ray://127.0.0.2:10001")
    assert ray.asked == asked


def test_a_client_refused_twice_says_so() -> None:
    with pytest.raises(ConnectionAbortedError, match="Initialization failure"):
        ray_driver._connect(Ray(2), "ray://127.0.0.2:10001")
