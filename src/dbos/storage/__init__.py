"""Storage: the journal, claims, leases and reads on SQLite and PostgreSQL. No user code, no policy.

The life of a workflow's row:

1. *Start.* The journal inserts it as ``PENDING`` with the token of the run that begins (``batches_*``).
2. *Checkpoints.* The run's steps are written in the order in which they ended, each batch behind a guard that locks the
   row and asks for the token. What a step was the cause of (a child workflow, a message, an event, an entry of a
   stream: ``effects_*``) is written only with its checkpoint.
3. *Outcome.* Status and result are written once, in the transaction of the last checkpoints, by the owner only, and
   only while the row is ``PENDING``.
4. *Or: crash.* The lease of the dead process is buried (``leases``), or found dead; another executor stores a token of
   its own (``claims``) and loads the checkpoints in a later statement. Because the guard locks what it checks, a write
   that was in flight is either visible then or refused.
5. *Or: cancel.* The status changes and the token stays, so that the step in flight is recorded and the run learns of
   it; resuming clears the token and enqueues the workflow (``management``), and an executor claims it again.

What can be waited for, and how it is asked for, is in ``waiting``; how processes tell each other when to ask, in
``hints``.

Every transaction goes through ``Database.transaction``, where tests can watch, kill, pause and fail it.
"""
