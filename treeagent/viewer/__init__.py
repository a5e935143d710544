"""``treeagent view``: a journal as one self-contained HTML page."""
