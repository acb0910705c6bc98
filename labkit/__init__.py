"""labkit: measure how AI scales, on the machine at hand. Rooms are imported by name (``from labkit import launch``)."""

__version__ = "0.1.0"
