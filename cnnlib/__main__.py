"""`python -m cnnlib` is the command line, which is also installed as `cnnlib`."""

import sys

from cnnlib.course.command_line import main

if __name__ == "__main__":
    sys.exit(main())
