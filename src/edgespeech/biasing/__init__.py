"""Phrases that are likely to be spoken: their spellings, and the bonus that a search gives them."""
