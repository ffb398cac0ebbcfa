"""Facts about the machine, without which no number here means much."""

import os
import platform
import tempfile
import time
from statistics import median


def machine_facts() -> dict[str, str]:
    """What is printed under the table: processor, system, how busy it is, and the price of one flush to the disk."""
    return {
        "CPUs": f"{_usable_cpus()} ({_cpu_model()})",
        "System": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Load before": f"{os.getloadavg()[0]:.1f} processes running (average of a minute)",
        "Disk flush": f"{_flush_ms():.2f} ms (median of 8 kB write and fsync where the databases lie)",
    }


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown model"


def _flush_ms(repeats: int = 100) -> float:
    times: list[float] = []
    with tempfile.TemporaryFile(prefix="dbos-bench-") as file:
        for _ in range(repeats):
            started = time.perf_counter()
            file.write(b"x" * 8192)
            file.flush()
            os.fsync(file.fileno())
            times.append((time.perf_counter() - started) * 1000)
    return median(times)
