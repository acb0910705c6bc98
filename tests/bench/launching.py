"""What a launch costs before a rank's first line of work."""

from __future__ import annotations

from labkit import launch, measure


def no_op() -> measure.Measured:
    """Seconds of launch.run with two ranks that join a gloo group and do nothing."""
    return measure.repeat(
        lambda: launch.run(lambda: None, ranks=2, backend="gloo"), name="no-op launch", repeats=5, warmup=1
    )
