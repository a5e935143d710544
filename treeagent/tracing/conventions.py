"""Names of OpenTelemetry's semantic conventions, of the version that the spans follow.

1.41.0 is the last version of the main repository that defines the GenAI conventions; they are not stable, so the names
stand here and not in a library that changes them. What the conventions do not cover is under ``treeagent.``.
"""

from __future__ import annotations

VERSION = "1.41.0"
SCHEMA_URL = f"https://opentelemetry.io/schemas/{VERSION}"

OPERATION = "gen_ai.operation.name"
CHAT, TEXT_COMPLETION, INVOKE_AGENT, EXECUTE_TOOL = "chat", "text_completion", "invoke_agent", "execute_tool"
SCORE = "score"
"""Log-likelihoods or rewards of given texts, an operation that the conventions have no name for."""

PROVIDER = "gen_ai.provider.name"
MODEL = "gen_ai.request.model"
AGENT = "gen_ai.agent.name"
TOOL = "gen_ai.tool.name"
ERROR = "error.type"

CHOICES = "gen_ai.request.choice.count"
TEMPERATURE = "gen_ai.request.temperature"
TOP_K = "gen_ai.request.top_k"
TOP_P = "gen_ai.request.top_p"
MAX_TOKENS = "gen_ai.request.max_tokens"
FINISH_REASONS = "gen_ai.response.finish_reasons"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"

EVALUATION = "gen_ai.evaluation.result"
EVALUATION_NAME = "gen_ai.evaluation.name"
EVALUATION_SCORE = "gen_ai.evaluation.score.value"
EVALUATION_LABEL = "gen_ai.evaluation.score.label"

# Texts, which only spans with content have.
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
TOOL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_RESULT = "gen_ai.tool.call.result"
