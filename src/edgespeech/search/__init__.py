"""From features to words with a transducer: streaming, greedy and beam search, word times, grammar constraint."""
