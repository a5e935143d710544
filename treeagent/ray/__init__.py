"""Evaluation on Ray: replicas of an agent on the machines of a cluster (extra ``ray``)."""

from __future__ import annotations

from .batch import EvaluateBatch

__all__ = ["EvaluateBatch"]
