"""What `karkas` exits with. A script may rely on these."""

DONE = 0
FAILED = 1
"""It did not work; the message says what to do."""
USAGE = 2
"""The command line was not understood."""
PARKED = 3
"""Work waits at a gate for a person: `karkas queue list`."""
STOPPED = 4
"""A budget or deadline ended it; what is on disk is valid."""
INTERRUPTED = 130
"""Ctrl-C."""
