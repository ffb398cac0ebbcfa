"""``python -m dbos``: the command line."""

from dbos.edges.cli.main import main

main(prog_name="dbos")
