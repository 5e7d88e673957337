"""The cloud's second pass: a neural language model, and the rescoring of lattices and n-best lists with it."""
