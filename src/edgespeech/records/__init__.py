"""Records: one versioned, append-only JSON file a run, with a row an utterance beside it."""
