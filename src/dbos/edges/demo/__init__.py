"""The demo: a durable workflow whose process is killed again and again, and checks that nothing was lost.

``durable_index`` is the durable program, ``stdlib_files`` the work that it does; ``lives`` starts and kills it;
``checks`` compares what ran with what was recorded. The command is in ``dbos.edges.cli.demo``.
"""
