"""Decoding with a transducer: streaming, greedy and beam search, word times, grammar constraint."""
