"""Steps of the pipeline: what a step depends on, what it made, and how it is run."""
