"""Parallelism: by hand, to be read; through torch, to be used; equal, to be believed."""

__all__: list[str] = []
