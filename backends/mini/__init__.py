"""The bundled models: weights and their model card."""
