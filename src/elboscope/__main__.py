"""``python -m elboscope``: the same as the command ``elboscope``."""

import sys

from elboscope.cli import main

if __name__ == "__main__":
    sys.exit(main())
