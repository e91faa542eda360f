"""``python -m replication``: the command line of ``run_all.sh``, and its two others, ``doctor`` and ``recompute``."""

import sys

from replication.app import cli, doctor, recompute

COMMANDS = {"doctor": doctor.main, "recompute": recompute.main}

if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # what an ASCII terminal cannot show ends no command
    name, *others = sys.argv[1:] or [""]
    sys.exit(COMMANDS[name](others) if name in COMMANDS else cli.main(sys.argv[1:]))
