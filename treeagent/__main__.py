"""``python -m treeagent``: the command line."""

from .cli import main

main()
