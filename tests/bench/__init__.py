"""Benches: figures with a target that timing decides (``make bench``)."""
