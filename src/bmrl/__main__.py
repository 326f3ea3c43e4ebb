"""`python -m bmrl`: the command line, where the script `bmrl` is not on the path."""

from bmrl.cli import main

main()
