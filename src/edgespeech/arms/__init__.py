"""Trained arms that several replication pages share: configuration, runs, packing, figures, tables."""
