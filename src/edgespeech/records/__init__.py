"""Records: one versioned, append-only JSON file per run, with one row per utterance in a second file."""
