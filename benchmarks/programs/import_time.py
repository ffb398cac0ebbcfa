"""Wall time of `python -c "import dbos"` less that of `python -c pass`, each in fresh processes: milliseconds."""

import argparse
import subprocess
import sys
import time
from statistics import median

from support import expect, finish


def wall_ms(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return (time.perf_counter() - started) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats

    check = "import dbos; print(callable(dbos.DBOS.workflow))"  # warms the byte-code cache up, too
    done = subprocess.run([sys.executable, "-c", check], check=True, stdout=subprocess.PIPE, text=True)
    expect(done.stdout, "True\n", "content of the imported package")
    pairs = [(wall_ms("import dbos"), wall_ms("pass")) for _ in range(repeats)]
    finish(median(imported for imported, _ in pairs) - median(bare for _, bare in pairs))


if __name__ == "__main__":
    main()
