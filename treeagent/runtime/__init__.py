"""The run time: agent, explorer, requests, budget and journal."""
