"""The engine: starting, replaying, checkpointing, waiting, recovering. Policy; no SQL text.

Written once for sync and async: what the engine does is a *core*, a generator that yields what it waits for (a ticket
of the journal, a promise, user code, a database read, a pause). Two drivers run cores, one by blocking its thread, one
by awaiting on its event loop.

A *run* is one claimed execution of a workflow in this process (``run``). Steps are checkpointed through its log
(``steps``). Its life: ``starting``, ``running``, ``endings``; a workflow's ``children`` have theirs. ``recovery`` takes
up what crashed executors left behind, ``leases`` keeps this executor's lease, ``outcomes`` waits for workflows that run
elsewhere. ``executor`` ties them together for one launch.
"""
