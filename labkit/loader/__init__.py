"""The loader: a real corpus, formats, storage as slow as one likes, an order that survives, and where a stall is."""

__all__: list[str] = []
