"""doit's reporter, for the surface that shows plain doit runs: nothing above knows doit itself."""

from doit.reporter import ConsoleReporter

__all__ = ["ConsoleReporter"]
