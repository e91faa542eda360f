"""What a run was computed with."""

import importlib.metadata
import platform
import re
import subprocess
from functools import cache
from pathlib import Path

import joblib
import torch

from replication.support import paths


@cache
def environment() -> dict[str, str]:
    """What a run was computed with: versions, processor and the commit of the code."""
    return {
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in ("torch", "numpy", "scipy", "pandas")},
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": str(joblib.cpu_count()),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "commit": _commit(),
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    name = re.search(r"^model name.*?: *(.+)", info.read_text() if info.exists() else "", re.MULTILINE)
    return name[1].strip() if name else platform.processor() or "unknown"


def _commit() -> str:
    """The commit of the code, with ``-dirty`` where a file of the code was changed since. Results may differ: a run
    writes them while it goes on."""
    code = ("denoise_lib", "replication", "params", "notebooks", "requirements.lock")
    try:
        commit, changed = (
            subprocess.check_output(
                ["git", "-C", paths.PROJECT, *command], stderr=subprocess.DEVNULL, text=True
            ).strip()
            for command in (("describe", "--always", "--abbrev=10"), ("status", "--porcelain", "--", *code))
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("-dirty" if changed else "")
