# The names of `replog`, for type checkers: the same as in `_HOMES` of __init__.py (a test compares them).

from replog.config import ClusterConfig as ClusterConfig
from replog.config import create_cluster as create_cluster
from replog.errors import Compacted as Compacted
from replog.errors import ConfigError as ConfigError
from replog.errors import NoCluster as NoCluster
from replog.errors import NotCommitted as NotCommitted
from replog.errors import OperationFailed as OperationFailed
from replog.errors import OutcomeUnknown as OutcomeUnknown
from replog.errors import Overloaded as Overloaded
from replog.errors import ReplogError as ReplogError
from replog.errors import RequestTooLarge as RequestTooLarge
from replog.interface import Entry as Entry
from replog.interface import ReplicatedLog as ReplicatedLog
from replog.interface import Result as Result
from replog.live.client import LogClient as LogClient
from replog.live.cluster import LocalCluster as LocalCluster
from replog.live.processes import LocalProcesses as LocalProcesses
from replog.statemachine import StateMachine as StateMachine
from replog.statemachine import Table as Table
from replog.statemachine import command as command
from replog.statemachine import query as query
