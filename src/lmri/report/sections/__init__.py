"""Sections of the report: each puts a part of a study into words, numbers and pictures for the template."""
