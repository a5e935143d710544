"""The bundled models: weights, model card, the scripts that made and measured them."""
