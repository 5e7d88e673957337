"""Tables, plots and the HTML report, rendered from records alone."""

from edgespeech.report.render import render

__all__ = ["render"]
