"""Text: normalisers, spoken forms of written tokens, and weighted sentence grammars."""
