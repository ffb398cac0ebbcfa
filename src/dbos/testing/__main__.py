"""``python -m dbos.testing EXPORT --app MODULE``: replays exported workflows by the functions of a module."""

from __future__ import annotations

import importlib
import sys

import click

from dbos.testing.replaying import replay


@click.command()
@click.argument("export", type=click.Path(exists=True, dir_okay=False))
@click.option("--app", "module", required=True, metavar="MODULE", help="Where the workflow functions are: shop.main")
def main(export: str, module: str) -> None:
    """Replay the workflows of EXPORT, which `dbos workflow export` wrote; exit with 1 if one does not replay.

    No step is run, and nothing is written. Replay only what you trust: values are unpickled.
    """
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise click.BadParameter(f"{module} cannot be imported: {error}", param_hint="--app") from error
    try:
        replays = replay(export)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    for each in replays:
        click.echo(str(each))
    sys.exit(any(each.difference is not None for each in replays))


if __name__ == "__main__":
    main(prog_name="python -m dbos.testing")
