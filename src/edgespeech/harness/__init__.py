"""How a recogniser is measured: the runner, replay over a network, scoring, and the record of a run."""
