"""What a run was computed with."""

import importlib.metadata
import platform
import subprocess
from functools import cache
from pathlib import Path

import joblib
import torch

from denoise_lib import paths


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
    command = ["git", "-C", str(paths.PROJECT), "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
