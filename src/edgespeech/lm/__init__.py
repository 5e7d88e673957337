"""Back-off n-gram language models: estimation, storage, and shallow fusion with a transducer."""
