"""`python -m reprolib` is the command `reprolib`."""

import sys

from reprolib.cli import main

if __name__ == "__main__":
    sys.exit(main())
