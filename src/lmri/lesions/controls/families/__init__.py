"""Descriptions of the families of controls, one per file; the classes themselves are loaded on demand."""
