"""Ctrl-C for commands that tests start."""

__all__ = ["IN_A_TERMINAL"]

IN_A_TERMINAL = ("env", "--default-signal=INT")
"""Before a command: a shell starts what runs in the background with Ctrl-C ignored, tests and their children too."""
