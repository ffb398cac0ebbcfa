"""What the crash-point, zombie and chaos tests share.

A *program* is a Python file with workflows and a `main()` that calls one under a fixed id. A *life* is one run of it
in a process of its own (`life`), in which a gate may kill, stop or fail the k-th transaction (`gate`). Between lives
and after the last one the database is read by plain SQL (`rows`) and compared with the ledger of what really ran
(`invariants`). `crash` runs a program for every k.
"""
