"""The storage protocol in plain Python: what each method of `dbos.storage` answers, and what it leaves in the tables.

It is written from the methods' descriptions, with lists and dicts and without concern for speed, so that it can be
checked by reading. `tests/differential` compares both databases with it, operation by operation.
"""

from tests.verify.oracle.claims import Claims
from tests.verify.oracle.debouncing import Debouncing
from tests.verify.oracle.diagnosis import Diagnosis
from tests.verify.oracle.queues import Queues
from tests.verify.oracle.reads import Reads
from tests.verify.oracle.retention import Retention
from tests.verify.oracle.schedules import Schedules
from tests.verify.oracle.tables import Tables
from tests.verify.oracle.transactions import Transactions
from tests.verify.oracle.versions import Versions

__all__ = ["Oracle", "Tables"]


class Oracle(Debouncing, Schedules, Transactions, Retention, Claims, Queues, Reads, Versions, Diagnosis):
    """All of storage. Each method is named and called as its counterpart, without the database."""
