"""The page of quality control and its figures."""
