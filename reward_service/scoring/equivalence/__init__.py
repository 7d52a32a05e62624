"""Is a final answer the same as the gold answer? Extraction, limits, normal forms, comparison."""
