"""Code that names something public is a link to its page; files beside the site are on GitHub."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import names
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

# In which a link would be a link within a link, or a heading that is one.
CLOSED = (nodes.reference, nodes.title, addnodes.pending_xref, addnodes.desc_signature)


class Links(SphinxTransform):
    """Make references of literals: `huber_loss`, `jaxloss.huber_loss`, `huber_loss(p, t)`."""

    default_priority = 400

    def apply(self, **kwargs: Any) -> None:
        """Go through the literals and the tables of a page."""
        if self.env.docname.startswith("coming_from/"):
            for table in self.document.findall(nodes.table):
                table["classes"].append("elsewhere")  # whose rows are stacked on a phone
        page = self.env.docname.removeprefix("reference/")
        module = page.partition(".")[0] if "." in page else page
        for literal in list(self.document.findall(nodes.literal)):
            name = names.mentioned(literal.astext(), module)
            if not name or name == page or _inside(literal):
                continue
            link = addnodes.pending_xref(
                "",
                refdomain="py",
                reftype="obj",
                reftarget=f"jaxloss.{name}",
                refexplicit=True,
                refwarn=True,
                refdoc=self.env.docname,
            )
            literal.replace_self(link)
            link += literal


def _inside(node: nodes.Node) -> bool:
    while node.parent is not None:
        node = node.parent
        if isinstance(node, CLOSED):
            return True
    return False


def _outside(app: Sphinx, docname: str, content: list[str]) -> None:
    """Let links to files of the repository that are no pages lead to GitHub."""
    docs, root = Path(app.srcdir), Path(app.srcdir).parent
    branch = os.environ.get("JAXLOSS_DOCS_REF", "main")

    def there(match: re.Match[str]) -> str:
        file = ((docs / docname).parent / match[1]).resolve()
        if file.is_relative_to(docs) or not (file.is_relative_to(root) and file.exists()):
            return match[0]
        kind = "tree" if file.is_dir() else "blob"
        path = file.relative_to(root)
        return f"](https://github.com/jaxloss/jaxloss/{kind}/{branch}/{path}{match[2] or ''})"

    content[0] = re.sub(r"\]\((\.\./[^)#\s]+)(#[^)\s]*)?\)", there, content[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the transform and the rule for files beside the site."""
    # Pages are read again where what makes them changes.
    app.add_config_value("made_with", "", "env")
    app.add_transform(Links)
    app.connect("source-read", _outside)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
