"""Checks every link of a built site: its file is there, and so is the place in it. Folders that are linked get a list
of their files."""

import html.parser
import pathlib
import sys
import urllib.parse


class Page(html.parser.HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id" and value:
                self.anchors.add(value)
            if name in ("href", "src") and value:
                self.links.append(value)


def listing(folder):
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    items = "".join(f'<li><a href="{urllib.parse.quote(name)}">{name}</a></li>' for name in names)
    (folder / "index.html").write_text(
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{folder.name}</title><h1>{folder.name}</h1>'
        f"<ul>{items}</ul></html>",
        encoding="utf-8",
    )


site = pathlib.Path(sys.argv[1]).resolve()
pages = {path: Page(path) for path in site.rglob("*.html")}
broken, checked = [], 0
for path, page in pages.items():
    # The page for what is not found has absolute addresses, and the one to print repeats all others.
    if path.name in ("404.html", "print.html", "toc.html"):
        continue
    for link in page.links:
        parts = urllib.parse.urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        checked += 1
        target = (path.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else path
        if target.is_dir():
            if not (target / "index.html").exists():
                listing(target)
            target /= "index.html"
        if not target.is_relative_to(site) or not target.exists():
            broken.append(f"{path.relative_to(site)}: {link}")
        elif parts.fragment and target in pages and parts.fragment not in pages[target].anchors:
            broken.append(f"{path.relative_to(site)}: {link}: no such place")
if broken or not checked:
    sys.exit("\n".join(["links that lead nowhere:", *broken]))
print(f"{checked} links of {len(pages)} pages checked")
