"""``treeagent bench``: one workload of tree-search requests, run in many ways, in one table."""
