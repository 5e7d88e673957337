"""`python -m edgespeech.cli`: the same as the command `edgespeech`."""

from edgespeech.cli import main

main()
