"""End-pointing: when the user has stopped speaking, told from what is heard and from what was recognised."""
