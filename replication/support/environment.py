"""What a run was computed with."""

import platform
import re
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

import joblib
import torch

from replication.support import paths

CODE = ("denoise_lib", "replication", "params", "notebooks", "requirements.lock")


@cache
def environment() -> dict[str, str]:
    """Versions, processor and the commit of the code."""
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "numpy", "scipy", "pandas")},
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": str(joblib.cpu_count()),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "commit": _commit(),
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    name = re.search(r"^model name.*?: *(.+)", info.read_text(encoding="utf-8") if info.exists() else "", re.MULTILINE)
    return name[1].strip() if name else platform.processor() or "unknown"


def _commit() -> str:
    """With ``-dirty`` where the code was changed since. Results may differ: a run writes them while it goes on."""
    git = ["git", "-C", paths.PROJECT]
    try:
        commit = subprocess.check_output([*git, "describe", "--always", "--abbrev=10"], stderr=subprocess.DEVNULL)
        changed = subprocess.check_output([*git, "status", "--porcelain", "--", *CODE])
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.decode().strip() + ("-dirty" if changed else "")
