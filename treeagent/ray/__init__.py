"""Evaluation on Ray: replicas of an agent on the machines of a cluster (extra ``ray``)."""
