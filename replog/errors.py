"""What a caller of a replicated log can be told. Every call ends in a result or in one of these."""

from __future__ import annotations


class ReplogError(Exception):
    """Base of all errors that this package raises on purpose."""


class ConfigError(ReplogError, ValueError):
    """A file, flag or option is wrong; the text names field, value and rule."""


class NoCluster(ReplogError):
    """No cluster runs where one was looked for."""


class NotLetIn(NoCluster):
    """Replicas are there, and do not let this client in; the text has the words of one of them."""


class NotCommitted(ReplogError):
    """The operation was not executed and will not be."""


class Overloaded(NotCommitted):
    """Refused before it was ordered: more is outstanding than the configuration allows. Try again later."""


class RequestTooLarge(NotCommitted):
    """Refused before it was sent: no request of this cluster may be so large. Divide it."""


class OutcomeUnknown(ReplogError):
    """No answer in time: the operation may have been executed, may be executed later, or never (HAZARDS X8)."""


class OperationFailed(ReplogError):
    """The application refused the operation, the same way on every replica: its exception is the result."""

    def __init__(self, type_: str, text: str) -> None:
        super().__init__(f"{type_}: {text}" if text else type_)
        self.type = type_
        self.text = text


class Compacted(ReplogError):
    """The log below `first` is no longer kept: the state has it, the entries are gone."""

    def __init__(self, first: int) -> None:
        super().__init__(f"the kept log begins at index {first}")
        self.first = first
