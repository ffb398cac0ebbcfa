"""The database for coding agents: a server of the Model Context Protocol, as ``dbos mcp`` runs it.

Agents read what is recorded, and with ``--allow-writes`` steer workflows and schedules. What they read was written by
others: it is shown as data, marked as such, bounded, and never unpickled. The package ``mcp`` is imported here only.
"""
