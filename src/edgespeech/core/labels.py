"""Labels of a transducer: the blank, and the marker with which word pieces begin words."""

BLANK = 0
"""The label of the blank among the word pieces."""
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""The first character of a piece that begins a word, see `edgespeech.model.tokeniser`."""
