"""The asv suite: what the harness itself costs, and what must not creep up. It measures; `src` computes."""
