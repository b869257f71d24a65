"""Page of quality control, and its figures."""
