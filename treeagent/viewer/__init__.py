"""A journal, or two, as one self-contained HTML page: the command ``treeagent view``."""
