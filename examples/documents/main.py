"""A document pipeline: take the text out of every file of a folder, cut it into chunks, put them into an index.

Run `python main.py index library monday`, kill it, and run it again; README.md tells what to see.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import extract
import index

from dbos import DBOS, DBOSConfig, Queue, SetWorkflowID

PROGRESS = "progress"
COUNTS = "counts"

queue = Queue("documents", worker_concurrency=4)


# ------------------------------------------------------------------------------------------------------ the workflows


@DBOS.workflow()
def index_folder(folder: str) -> str:
    """One run over a folder. A bad document is told of, and stops no other."""
    documents = list_documents(folder)
    handles = [queue.enqueue(index_document, folder, document) for document in documents]
    failed = 0
    for done, (document, handle) in enumerate(zip(documents, handles, strict=True), start=1):
        try:
            outcome = f"{handle.get_result()} chunks"
        except ValueError as error:
            failed += 1
            outcome = f"FAILED, {error}"
        DBOS.write_stream(PROGRESS, f"{done}/{len(documents)} {document}: {outcome}")
        DBOS.set_event(COUNTS, {"documents": len(documents), "done": done, "failed": failed})
    DBOS.close_stream(PROGRESS)
    return f"{len(documents) - failed} documents indexed, {failed} failed"


@DBOS.workflow()
def index_document(folder: str, document: str) -> int:
    """One document, from its file to its place in the index; returns how many chunks it has."""
    text = extract_text(folder, document)
    chunks = extract.chunks_of(text)  # no step: it is quick, and makes the same chunks whenever it is called
    put_into_index(document, chunks)
    return len(chunks)


# ---------------------------------------------------------------------------------------------------------- the steps


@DBOS.step()
def list_documents(folder: str) -> list[str]:
    """The files of the folder, as they are now: those that come later are for the next run."""
    return sorted(path.name for path in Path(folder).iterdir() if path.is_file())


@DBOS.step()
def extract_text(folder: str, document: str) -> str:
    """The slow part."""
    return extract.text_of(Path(folder, document))


@DBOS.step()
def put_into_index(document: str, chunks: list[str]) -> None:
    """Replace what the index has of the document."""
    index.put(document, chunks)


# -------------------------------------------------------------------------------------------------------- the command


def index_and_tell(folder: Path, run: str) -> None:
    """Start the run, or go on with it if there is one of that name, and print its progress from the beginning."""
    config: DBOSConfig = {
        "name": "documents",
        "system_database_url": os.environ.get("DBOS_SYSTEM_DATABASE_URL"),  # None: the file documents.sqlite
    }
    DBOS(config=config)
    DBOS.launch()
    with SetWorkflowID(run):
        handle = DBOS.start_workflow(index_folder, str(folder.resolve()))
    for line in DBOS.read_stream(run, PROGRESS):
        print(line, flush=True)
    print(handle.get_result())
    DBOS.destroy()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Index a folder of documents, and search it.")
    commands = parser.add_subparsers(dest="command", required=True)
    index_command = commands.add_parser("index", help="index a folder")
    index_command.add_argument("folder", type=Path)
    index_command.add_argument(
        "run", help="the name of the run: with the same name it goes on, with a new one it begins"
    )
    commands.add_parser("search", help="search the index").add_argument("words", nargs="+")
    options = parser.parse_args()
    if options.command == "search":
        for document, snippet in index.search(options.words):
            print(f"{document}: {snippet}")
    elif options.folder.is_dir():
        index_and_tell(options.folder, options.run)
    else:
        parser.error(f"{options.folder} is no folder")


if __name__ == "__main__":
    main()
