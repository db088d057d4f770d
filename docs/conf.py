"""Sphinx's settings: `make docs` builds the site into docs/_build/html."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from lpprop import __version__

project = "lpprop"
author = "The lpprop authors"
project_copyright = author
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
    "extensions.docstrings",
    "extensions.flowchart",
    "extensions.links",
    "extensions.mathml",
    "extensions.reference",
]
exclude_patterns = ["_build", "extensions", "**/.ipynb_checkpoints"]

# Our own names must lead somewhere; those of other packages would need other hosts.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!lpprop\.).*")]
suppress_warnings = ["myst.header"]  # a report may begin with headings of the third level

# Notebooks are shown as they are stored. The fences are those that GitHub renders, too.
nb_execution_mode = "off"
nb_ipywidgets_js = {}
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_fence_as_directive = ["math", "mermaid"]
myst_heading_anchors = 4
html_math_renderer = "mathml"

autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
smartquotes_action = "D"  # dashes; quotes stay, since "auto" is code with and without backticks
python_maximum_signature_line_length = 70
python_use_unqualified_type_names = True
add_module_names = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"lpprop {release}"
html_static_path = ["_static"]
html_css_files = ["lpprop.css"]
html_copy_source = False
html_show_sphinx = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
pygments_style = "default"
pygments_dark_style = "github-dark"
