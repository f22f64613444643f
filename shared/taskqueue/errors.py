"""Every failure this system names, on one page. A class's docstring is its default message.

    TaskQueueError
    ├── InvalidRequest            the caller's fault: the message says what is wrong
    ├── UnreadableMessage         a message that no worker can ever read
    ├── BrokerUnavailable
    ├── StoreError
    │   ├── StoreUnavailable      the database cannot be reached or written now
    │   └── QueryFailed           the database answered with an error
    │       └── RowDamaged        a row holds what this system never wrote
    ├── WorkerExhausted           too many handlers hang: only a new process gets rid of them
    └── StartRefused              a process that must not start; each has an exit code
        ├── MigrationFailed       1
        ├── InvalidSettings       2
        ├── DatabaseUnusable      65  (EX_DATAERR)
        │   ├── SchemaUnknown
        │   └── DatabaseDamaged
        ├── AddressUnusable       69  (EX_UNAVAILABLE)
        ├── StoreUnreachable      75  (EX_TEMPFAIL)
        ├── FolderNotWritable     73  (EX_CANTCREAT)
        ├── FileShared            74  (EX_IOERR)
        ├── SQLiteTooOld          78  (EX_CONFIG)
        └── NetworkFileSystem     79

The numbers are those of BSD's sysexits.h where it has a fitting one.
"""

from typing import ClassVar


class TaskQueueError(Exception):
    """The task queue failed."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or " ".join((type(self).__doc__ or "").split()))


class InvalidRequest(TaskQueueError):
    """The request is not valid."""


class UnreadableMessage(TaskQueueError):
    """The message cannot be read."""


class BrokerUnavailable(TaskQueueError):
    """The broker cannot be reached."""


class StoreError(TaskQueueError):
    """The store failed."""


class StoreUnavailable(StoreError):
    """The database cannot be reached, or cannot be written now."""


class QueryFailed(StoreError):
    """The database refused a query."""


class RowDamaged(QueryFailed):
    """A row of the database is damaged."""


class WorkerExhausted(TaskQueueError):
    """Too many blocking handlers did not end when they had to: this worker stops, to be started again."""


class StartRefused(TaskQueueError):
    """The process refused to start."""

    exit_code: ClassVar[int] = 1


class MigrationFailed(StartRefused):
    """A migration failed, and the schema is as it was."""


class InvalidSettings(StartRefused):
    """The settings are not valid."""

    exit_code = 2


class DatabaseUnusable(StartRefused):
    """What is in the database is not for this version to read."""

    exit_code = 65


class SchemaUnknown(DatabaseUnusable):
    """The database has a schema that this version does not know: run the migrate service of this version."""


class DatabaseDamaged(DatabaseUnusable):
    """The database is damaged: restore a copy."""


class AddressUnusable(StartRefused):
    """The address cannot be listened on."""

    exit_code = 69


class FolderNotWritable(StartRefused):
    """The folder of the database cannot be written."""

    exit_code = 73


class FileShared(StartRefused):
    """Another process uses this database, and embedded mode must be alone with it."""

    exit_code = 74


class StoreUnreachable(StartRefused):
    """The database cannot be reached."""

    exit_code = 75


class SQLiteTooOld(StartRefused):
    """This SQLite can corrupt a file that two processes write; 3.51.3 or newer is needed."""

    exit_code = 78


class NetworkFileSystem(StartRefused):
    """The database is on a network file system, where SQLite's write-ahead log does not work."""

    exit_code = 79
