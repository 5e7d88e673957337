"""Models in one `.edge` file: low-bit codes, packing, the engine's Python interface, and reference implementations."""
