"""Backend ``openai``: any server that speaks OpenAI's protocol; httpx is imported at the first request, not before."""
