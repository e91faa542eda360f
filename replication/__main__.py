"""``python -m replication``: the command line of ``run_all.sh``, and ``python -m replication doctor``."""

import sys

from replication.app import cli, doctor

if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # what an ASCII terminal cannot show ends no command
    sys.exit(doctor.main(sys.argv[2:]) if sys.argv[1:2] == ["doctor"] else cli.main(sys.argv[1:]))
