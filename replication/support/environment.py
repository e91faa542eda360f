"""What a run was computed with."""

import importlib.metadata
import platform
import subprocess
from functools import cache
from pathlib import Path

import joblib
import torch

from replication.support import paths


@cache
def environment() -> dict[str, str]:
    """What a run was computed with: versions, processor and the commit of the code."""
    packages = ("torch", "numpy", "scipy", "pandas")
    return {
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in packages},
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": str(joblib.cpu_count()),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "commit": _commit(),
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def _commit() -> str:
    """The commit of the code, with ``-dirty`` where a file of the code was changed since. Results may differ: a run
    writes them while it goes on."""
    code = ["denoise_lib", "replication", "params", "notebooks", "requirements.lock"]
    try:
        commit = _git("describe", "--always", "--abbrev=10")
        return commit + ("-dirty" if _git("status", "--porcelain", "--", *code) else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(paths.PROJECT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
