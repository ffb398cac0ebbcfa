"""The storage protocol in plain Python: what each method of `dbos.storage` answers, and what it leaves in the tables.

It is written from the methods' descriptions, with lists and dicts and without concern for speed, so that it can be
checked by reading. `tests/differential` compares both databases with it, operation by operation.
"""

from tests.verify.oracle.claims import Claims
from tests.verify.oracle.debouncing import Debouncing
from tests.verify.oracle.management import Management
from tests.verify.oracle.queues import Queues
from tests.verify.oracle.reads import Reads
from tests.verify.oracle.tables import Tables

__all__ = ["Oracle", "Tables"]


class Oracle(Debouncing, Claims, Management, Queues, Reads):
    """All of storage. Each method is named and called as its counterpart, without the database."""
