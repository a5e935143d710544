"""Tasks that are YAML files."""
