"""How Sphinx builds the site: `make docs`."""

# ruff: noqa: E402 - our extensions are found where this file says

import os
import sys
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
CACHE = Path(os.environ.get("JAXLOSS_DOCS_CACHE", ROOT / ".cache" / "site"))
sys.path[:0] = [str(ROOT), str(DOCS / "_ext")]
# Pages that are executed are so with this checkout, on any machine alike.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE / "jax"))
os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # else each kernel warns of frozen modules

import drawn
import names
import reference

import jaxloss

project = "jaxloss"
author = "the jaxloss authors"
copyright = author
release = jaxloss.__version__
# "dev", "stable" or "v1.2" where the site is published: then the switcher asks for the others.
published = os.environ.get("JAXLOSS_DOCS_VERSION", "")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.linkcode",
    "sphinx.ext.napoleon",
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
    "docstrings",
    "drawn",
    "links",
    "reference",
]
exclude_patterns = ["_ext", "_static", "**.ipynb_checkpoints"]
default_role = "name"
suppress_warnings = ["config.cache"]  # linkcode_resolve is a function

autodoc_typehints = "none"
autodoc_class_signature = "mixed"
napoleon_custom_sections = ["Reference"]
napoleon_attr_annotations = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 60
python_trailing_comma_in_multi_line_signatures = True
toc_object_entries = False
add_module_names = True
linkcode_resolve = reference.source
pictures_folder = str(CACHE / "pictures")
made_with = "".join(file.read_text() for file in sorted((DOCS / "_ext").glob("*.py")))

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3
sd_card_legacy_separators = False
nb_execution_mode = "cache"
# What a page printed is true of the package that it ran with.
nb_execution_cache_path = str(CACHE / "executed" / drawn.key(names.PACKAGE)[:16])
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
nb_ipywidgets_js = {}  # they would come from another host
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "pydata_sphinx_theme"
html_title = "jaxloss"
html_static_path = ["_static"]
html_css_files = ["jaxloss.css"]
html_favicon = "_static/favicon.svg"
html_context = {"default_mode": "auto"}
html_copy_source = False
html_show_sourcelink = False
# They are fetched, which a page from a file may not do.
html_show_search_summary = bool(published)
html_sidebars = {"index": [], "gallery": [], "start": [], "choose": []}
html_theme_options = {
    "logo": {
        "text": "jaxloss",
        "image_light": "_static/favicon.svg",
        "image_dark": "_static/favicon.svg",
        "alt_text": "jaxloss",
    },
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "icon_links": [
        {
            "name": "GitHub",
            "url": "https://github.com/jaxloss/jaxloss",
            "icon": "fa-brands fa-github",
        }
    ],
    "search_bar_text": "Search",
    "show_toc_level": 2,
    "navigation_depth": 3,
    "secondary_sidebar_items": {
        "index": [],
        "reference/*": [],
        **{page: ["page-toc"] for page in ("start", "choose", "gallery", "examples")},
        **{f"{folder}/*": ["page-toc"] for folder in ("guide", "tutorials", "coming_from")},
    },
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
if published:
    html_theme_options |= {
        "switcher": {
            "json_url": "https://jaxloss.github.io/jaxloss/switcher.json",
            "version_match": published,
        },
        "check_switcher": False,  # it asks another host while the site is built
        "navbar_end": ["version-switcher", "theme-switcher", "navbar-icon-links"],
    }
