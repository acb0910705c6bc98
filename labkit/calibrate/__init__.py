"""Calibration: measured ceilings, the roofline drawn from them, and published figures to hold them against."""

from labkit.calibrate.bandwidth import measure_bandwidth, measure_disk
from labkit.calibrate.ceilings import Ceilings, calibrate, load, save
from labkit.calibrate.collective import AllReducePoint, measure_all_reduce
from labkit.calibrate.matmul import MatmulPoint, measure_matmul
from labkit.calibrate.published import published
from labkit.calibrate.roofline import Roofline, fit_roofline, matmul_bytes, matmul_flops, score_roofline

__all__ = [
    "AllReducePoint",
    "Ceilings",
    "MatmulPoint",
    "Roofline",
    "calibrate",
    "fit_roofline",
    "load",
    "matmul_bytes",
    "matmul_flops",
    "measure_all_reduce",
    "measure_bandwidth",
    "measure_disk",
    "measure_matmul",
    "published",
    "save",
    "score_roofline",
]
