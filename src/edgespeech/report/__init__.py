"""Tables, plots and the HTML report, rendered from records alone."""
