"""Models in one `.edge` file: low-bit codes, packing, and the engine's Python face with its slow twins."""
