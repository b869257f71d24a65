"""How the documentation is built: ``make docs``. Nothing here, and nothing in what is built, asks the network."""

import os
import sys
from pathlib import Path
from typing import Any

# Before anything loads transformers: an example that asks the hub is wrong, and is to fail at once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

import lmri  # noqa: E402

project = "lmri"
author = "The lmri developers"
copyright = "the lmri developers"
version = release = lmri.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "lmri_docs",
]
exclude_patterns = ["_build", "gallery/*.ipynb", "gallery/*.py", "gallery/searchindex.db"]
templates_path = ["_templates"]
nitpicky = True
# Names between single backticks are links where there is such a page, and plain code where there is none: most are
# arguments.
default_role = "py:obj"
highlight_language = "none"  # what is not said to be Python is a command, or a tree of files

# -- Markdown ---------------------------------------------------------------------------------------------------------

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3
myst_links_external_new_tab = False
# Reports of experiments are two documents in one, with two titles.
suppress_warnings = ["myst.header"]

# -- The reference ----------------------------------------------------------------------------------------------------

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # types are in the docstrings, where shapes and units are, too
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# -- The gallery ------------------------------------------------------------------------------------------------------

sphinx_gallery_conf = {
    "examples_dirs": ["../examples/gallery"],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "backreferences_dir": "gallery/backreferences",
    "doc_module": ("lmri",),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "min_reported_time": 3600,
    "write_computation_times": False,
    "remove_config_comments": True,
    "image_srcset": ["2x"],
    "reset_modules": ("matplotlib", "lmri_docs.plain_plots"),
}

# -- The pages --------------------------------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = "lmri"
html_static_path = ["_static"]
html_css_files = ["lmri.css"]
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False
html_logo = "_static/mark.svg"
html_favicon = "_static/mark.svg"
html_theme_options: dict[str, Any] = {
    "logo": {"text": "lmri"},
    "header_links_before_dropdown": 7,
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "show_nav_level": 1,
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_context = {"default_mode": "auto"}
html_sidebars = {"index": [], "start": [], "idea": [], "glossary": [], "format": [], "limitations": []}

copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
