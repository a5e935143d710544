"""SeeD: rounds of batched draft-then-verify over a prefix-shared forest of keys and values."""
