"""The vLLM servers of this machine: how one is started, watched, started again, and stopped with all that it started.

Nothing here imports vLLM or prints; `Supervisor` tells what happens to a callback, and to a file that others read.
"""

from karkas.server.process.command import Launch, ServeError
from karkas.server.process.probe import Probe
from karkas.server.process.record import ENDED, Record, State, Watchbook
from karkas.server.process.supervisor import Patience, Supervisor

__all__ = ["ENDED", "Launch", "Patience", "Probe", "Record", "ServeError", "State", "Supervisor", "Watchbook"]
