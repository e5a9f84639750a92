"""`python -m softly.cli` is the command line."""

import sys

from softly.cli import main

if __name__ == "__main__":
    sys.exit(main())
