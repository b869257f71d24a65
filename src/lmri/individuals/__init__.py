"""Individuals: group networks in single texts, by dual regression or by decompositions of their own."""

from lmri.individuals.dual_regression import Individuals, dual_regression
from lmri.individuals.inference import MapTest, contrast, one_sample
from lmri.individuals.templates import (
    DrawnTexts,
    TemplateOverlap,
    draw_texts,
    find_templates,
    template_overlap,
    text_imgs,
)

__all__ = [
    "DrawnTexts",
    "Individuals",
    "MapTest",
    "TemplateOverlap",
    "contrast",
    "draw_texts",
    "dual_regression",
    "find_templates",
    "one_sample",
    "template_overlap",
    "text_imgs",
]
