"""Loading of models: one module per step, and one per format that needs its own code."""
