"""The `karkas` command: one module for each group of commands, registered in `app.ROOMS`."""

from karkas.cli.app import main

__all__ = ["main"]
