"""What is attached: cores and memory by every limit in force, accelerators, links, filesystems. Loads no torch."""

from labkit.hardware.accelerators import Accelerator, accelerator_reason
from labkit.hardware.attached import Machine, links, machine
from labkit.hardware.cgroups import Limit
from labkit.hardware.dtypes import model_dtype, supported_dtypes
from labkit.hardware.filesystems import filesystem_type, free_bytes, is_network_filesystem
from labkit.hardware.home import lab_home
from labkit.hardware.interconnect import Link
from labkit.hardware.processor import cpp_compiler, last_level_cache_bytes

__all__ = [
    "Accelerator",
    "Limit",
    "Link",
    "Machine",
    "accelerator_reason",
    "cpp_compiler",
    "filesystem_type",
    "free_bytes",
    "is_network_filesystem",
    "lab_home",
    "last_level_cache_bytes",
    "links",
    "machine",
    "model_dtype",
    "supported_dtypes",
]
