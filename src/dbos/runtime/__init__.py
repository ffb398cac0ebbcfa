"""The engine: starting, replaying, checkpointing, waiting, recovering. Policy; no SQL text.

Written once for sync and async: what the engine does is a *core*, a generator that yields what it waits for (a ticket
of the journal, a promise, user code, a database read, a pause). Two drivers run cores, one by blocking its thread, one
by awaiting on its event loop.

A *run* is one claimed execution of a workflow in this process (``run``). Steps are checkpointed through its log
(``steps``). Its life: ``starting``, ``running``, ``endings``; a workflow's ``children`` have theirs. ``recovery`` takes
up what crashed executors left behind, ``leases`` keeps this executor's lease, ``duties`` keeps deadlines, stops what
was cancelled and starts what is enqueued. ``executor`` ties them together for one launch.

Workflows wait and talk by ``sleeping``, ``messages``, ``events`` and ``streams`` (the latter two share
``publishing``); they are steered by ``management``. What a process needs for that without running workflows, as a
client does, is a ``gateway``. Everything that is waited for goes through ``waits``, one thread that looks for all of it
(``looking`` is how the others ask it); ``interests`` keeps whose end other processes wait for.
"""
