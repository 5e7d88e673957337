"""One file per metric family; pure functions of traces and texts."""
