"""From audio to words with a transducer: the streaming transcriber, greedy and beam search, word times."""
