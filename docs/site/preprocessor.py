"""mdBook preprocessor, from pages for GitHub to pages of a site: `math` blocks, TeX there, become MathML, which needs no
script; and links to a README lead to the index that mdBook makes of it."""

import json
import re
import sys

from math_core import LatexError, LatexToMathML

BLOCK = re.compile(r"^```math\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
README = re.compile(r"(\]\(|\]: )([^)\s]*)README\.md")
CONVERTER = LatexToMathML(fancy_error=False)


def rendered(chapter):
    def formula(block):
        try:
            mathml = CONVERTER.convert_with_local_state(block[1], displaystyle=True)
        except LatexError as error:
            sys.exit(f"{chapter['path']}: a formula cannot be read: {error}\n{block[1]}")
        return f'<div class="formula">{mathml}</div>\n'

    chapter["content"] = README.sub(r"\1\2index.md", BLOCK.sub(formula, chapter["content"]))
    for item in chapter["sub_items"]:
        visit(item)


def visit(item):
    # The others are separators and titles of parts.
    if isinstance(item, dict) and "Chapter" in item:
        rendered(item["Chapter"])


if sys.argv[1:2] == ["supports"]:
    sys.exit(0 if sys.argv[2] == "html" else 1)
_, book = json.load(sys.stdin)
for item in book["items"]:
    visit(item)
json.dump(book, sys.stdout)
