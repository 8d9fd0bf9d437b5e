"""What can go wrong when a server is started; the tree is drawn in the package's docstring."""

from services.core.errors import OperatorError


class EmbeddedError(OperatorError):
    """A server could not be started on this machine."""


class Unavailable(EmbeddedError):
    """A program that is needed is not on this machine."""


class PortTaken(EmbeddedError):
    """Another program has the port that the caller insisted on."""


class StartFailed(EmbeddedError):
    """A program ended early or did not answer in time."""
