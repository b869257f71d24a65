"""Sections of the report: each formats one part of a study as text, numbers and figures for the template."""
