"""Descriptions of the families of controls, one per file: they load quickly, and the classes of controls on demand."""
