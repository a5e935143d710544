"""Tasks: every YAML file in this package is one."""
