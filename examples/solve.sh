#!/bin/sh
# Way 2: the command line. Diagnostics go to stderr, so the answer can be piped on.
set -e
treeagent solve --task game24 --search bfs --input "4 5 6 10" --set b=5
treeagent solve --task game24 --search mcts --input "4 9 10 13" --json
