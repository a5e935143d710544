"""Keys and values: slots, the radix tree of prefixes and page tables."""
