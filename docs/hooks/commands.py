"""The reference of the command line: what each command says of itself."""

from __future__ import annotations

from collections.abc import Iterator

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

from dbos.edges.cli.main import main

PLACE = "<!-- commands -->"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the commands into the page that has a place for them."""
    return markdown.replace(PLACE, "\n".join(_described(main, "dbos"))) if PLACE in markdown else markdown


def _described(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent, max_content_width=80, terminal_width=80)
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    for child, subcommand in getattr(command, "commands", {}).items():
        yield from _described(subcommand, child, context)
