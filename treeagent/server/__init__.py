"""What ``treeagent serve`` offers: searches behind OpenAI's protocol (extra ``serve``), or as MCP tools (``mcp``)."""
