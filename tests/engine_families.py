"""A tiny configuration of every model family in the engine's table."""

from __future__ import annotations

from typing import Any

from engine_pages import OPTIONS, part

SHAPE = {
    "vocab_size": 120, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
ENDS = {"bos_token_id": 0, "eos_token_id": 0}
GROUPED = {**SHAPE, "num_key_value_heads": 2}
WIDE = {**GROUPED, "head_dim": 8}
EXPERTS = {**WIDE, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
OLD = {"vocab_size": 120, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, **ENDS}
WINDOW = 32
"""Of the families whose layers may slide."""
KEPT = {
    **{**WIDE, "num_hidden_layers": 4, "num_kv_shared_layers": 2, "sliding_window": WINDOW},
    **{"layer_types": ["sliding_attention", "full_attention"] * 2, "hidden_size_per_layer_input": 8},
    **{"vocab_size_per_layer_input": 120},
}
WIDE_3N = {"laurel_rank": 4, "activation_sparsity_pattern": [0.0] * 4}
"""Of Gemma 3n beside it."""
DELTA = {
    **{**WIDE, "layer_types": ["linear_attention", "full_attention"], "linear_num_value_heads": 4, "pad_token_id": 0},
    **{"linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8},
}
ROUTED = {
    **{"num_experts": 4, "num_experts_per_tok": 2},
    **{"moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
}
"""Of Qwen3.5 with experts beside it."""
SHORT = {**GROUPED, "layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False}
MAMBA = {
    **{**GROUPED, "mamba_n_heads": 4, "mamba_n_groups": 2, "mamba_d_state": 8, "shared_intermediate_size": 24},
    **{"num_local_experts": 4, "num_experts_per_tok": 2},
}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("Llama", GROUPED),
    "Mistral": ("Mistral", {**GROUPED, "sliding_window": WINDOW}),
    "Qwen2": ("Qwen2", GROUPED),
    "Qwen3": ("Qwen3", WIDE),
    "Qwen3-MoE": ("Qwen3Moe", EXPERTS),
    "Mixtral": ("Mixtral", {**GROUPED, "num_local_experts": 4}),
    "Gemma": ("Gemma", WIDE),
    "Gemma 2": ("Gemma2", WIDE),
    "Gemma 3": ("Gemma3Text", {**WIDE, "sliding_window": WINDOW}),
    "Phi": ("Phi", SHAPE),
    "Phi-3": ("Phi3", GROUPED),
    "GPT-2": ("GPT2", OLD),
    "GPT-NeoX": ("GPTNeoX", SHAPE),
    "GPT-J": ("GPTJ", {**OLD, "rotary_dim": 8}),
    "OPT": ("OPT", {**SHAPE, "ffn_dim": 48, "word_embed_proj_dim": 32}),
    "StarCoder2": ("Starcoder2", GROUPED),
    "OLMo 2": ("Olmo2", GROUPED),
    "OLMo 3": ("Olmo3", {**GROUPED, "sliding_window": WINDOW}),
    "Granite": ("Granite", GROUPED),
    "Cohere": ("Cohere", GROUPED),
    "Cohere 2": ("Cohere2", {**WIDE, "sliding_window": WINDOW}),
    "SmolLM3": ("SmolLM3", GROUPED),
    "GLM-4": ("Glm4", WIDE),
    "GPT-OSS": ("GptOss", {**WIDE, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": WINDOW}),
    "Llama 4": ("Llama4Text", {**WIDE, "intermediate_size_mlp": 48, "num_local_experts": 2}),
    "Gemma 3n": ("Gemma3nText", {**KEPT, **WIDE_3N}),
    "Gemma 4": ("Gemma4Text", {**KEPT, "global_head_dim": 16}),
    "Ministral": ("Ministral", {**WIDE, "sliding_window": WINDOW}),
    "EXAONE 4": ("Exaone4", {**WIDE, "sliding_window": WINDOW}),
    "LFM2": ("Lfm2", SHORT),
    "LFM2-MoE": ("Lfm2Moe", {**SHORT, **ROUTED, "num_dense_layers": 1}),
    "Granite 4": ("GraniteMoeHybrid", {**MAMBA, "layer_types": ["linear_attention", "full_attention"]}),
    "Bamba": ("Bamba", {**MAMBA, "attn_layer_indices": [1]}),
    "Falcon-H1": (
        "FalconH1",
        {**GROUPED, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_ssm": 64, "mamba_d_state": 8},
    ),
    "Nemotron-H": ("NemotronH", {**WIDE, "layers_block_type": ["linear_attention", "full_attention"]}),
    "BLOOM": ("Bloom", {"vocab_size": 120, "hidden_size": 32, "n_layer": 2, "n_head": 4, **ENDS}),
    "Falcon": (
        "Falcon",
        {"vocab_size": 120, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, **ENDS},
    ),
    "MPT": ("Mpt", {"vocab_size": 120, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 128}),
    "StableLM": ("StableLm", GROUPED),
    "Mamba": ("Mamba", {"vocab_size": 120, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}),
    "Qwen3-Next": (
        "Qwen3Next",
        {
            **{**EXPERTS, "shared_expert_intermediate_size": 16, "linear_num_value_heads": 4},
            **{"linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8},
        },
    ),
    "Qwen3.5": ("Qwen3_5Text", DELTA),
    "Qwen3.5-MoE": ("Qwen3_5MoeText", {**DELTA, **ROUTED}),
    "OLMo hybrid": ("OlmoHybrid", {**GROUPED, "layer_types": ["linear_attention", "full_attention"]}),
    "Nemotron": ("Nemotron", GROUPED),
    "DeepSeek-V3": (
        "DeepseekV3",
        {
            **{**SHAPE, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8},
            **{"v_head_dim": 8, "qk_nope_head_dim": 8, "n_routed_experts": 4, "n_group": 1, "topk_group": 1},
            **{"num_experts_per_tok": 2, "moe_intermediate_size": 16, "first_k_dense_replace": 1},
        },
    ),
}
"""Prefix of the configuration's class, and a tiny shape."""


def stated() -> dict[str, tuple[str, str]]:
    """Family to whether it runs, and how or why not."""
    found = {}
    for line in part("names: families", OPTIONS).splitlines():
        _, families, runs, how, _ = (cell.strip() for cell in line.split("|")) if line else [""] * 5
        found |= dict.fromkeys(families.split(", "), (runs, how)) if runs in ("yes", "no") else {}
    return found
