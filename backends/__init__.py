"""Where requests run. Importing this package loads no backend; the registry does, by name."""
