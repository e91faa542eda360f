"""``python -m denoise_lib doctor``: see :mod:`denoise_lib.doctor`."""

import sys

from denoise_lib import doctor

if __name__ == "__main__":
    if sys.argv[1:2] != ["doctor"]:
        sys.exit("usage: python -m denoise_lib doctor [--help] PATH    (the notebooks are run by ./run_all.sh)")
    sys.exit(doctor.main(sys.argv[2:]))
