"""Every YAML file of this package is a task."""
