"""How long a user waits for nothing: the imports, and `edgespeech --help` from start to end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def timeraw_import_contracts() -> str:
    """A fresh interpreter imports the contracts."""
    return "import edgespeech.contracts"


def timeraw_import_cli() -> str:
    """A fresh interpreter imports the command line."""
    return "import edgespeech.cli"


class Help:
    def setup(self) -> None:
        self.command = [str(Path(sys.executable).with_name("edgespeech")), "--help"]
        subprocess.run(self.command, check=True, capture_output=True)  # compiles the byte code once

    def time_help(self) -> None:
        subprocess.run(self.command, check=True, capture_output=True)
