"""``python -m runner``: the command line, for fresh processes of the same interpreter."""

from runner.cli import main

main()
