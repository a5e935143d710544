"""The HTTP server of ``treeagent serve``: searches behind OpenAI's chat-completions protocol (extra ``serve``)."""
