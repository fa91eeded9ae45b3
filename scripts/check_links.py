"""Every link inside a site of HTML files leads to a file, and to an anchor that is there: check_links.py FOLDER.

Links that leave the site are counted, not opened.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif name in ("id", "name") and value:
                self.anchors.add(value)


def main():
    root = Path(sys.argv[1]).resolve()
    # The page of missing pages has links from the root of the server, wherever that will be.
    pages = {path: Page(path) for path in root.rglob("*.html") if path.name != "404.html"}
    inside, outside, broken = 0, 0, []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                outside += 1
                continue
            inside += 1
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            anchor = unquote(parts.fragment)
            if not target.exists() or anchor and target in pages and anchor not in pages[target].anchors:
                broken.append(f"{path.relative_to(root)}: {link}")
    for line in sorted(set(broken)):
        print(f"links: {line} leads nowhere", file=sys.stderr)
    if broken or inside < 100:
        sys.exit(f"links: {len(set(broken))} broken of {inside}")
    print(f"links: {inside} inside the site lead somewhere, {outside} leave it, on {len(pages)} pages")


main()
