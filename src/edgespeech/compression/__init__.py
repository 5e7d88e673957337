"""Weights in few bits: codes with scales (`codes`), and the packed file that the engine runs (`edge_file`)."""
