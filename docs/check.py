"""Check every link between pages, and that no page asks the network: ``python docs/check.py docs/_build/html``.

Sphinx checks references by name; this checks what was built, and the links in the Markdown files as a code host shows
them. External links are not fetched.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
LOADED = {"script": "src", "img": "src", "source": "src", "iframe": "src", "video": "src"}
_LINK = re.compile(r"(?<!\\)\]\(([^()\s]+(?:\([^()\s]*\))?)\)")
_CODE = re.compile(r"^```.*?^```\s*$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_OUTSIDE = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"])(?:https?:)?//", re.IGNORECASE)


class Page(HTMLParser):
    """What a page links to, what it loads, and where in it one can go."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take the addresses and ids of one element."""
        own = {name: value or "" for name, value in attrs}
        self.places |= {own[name] for name in ("id", "name") if name in own}
        if tag == "a" and "href" in own:
            self.links.append(own["href"])
        if tag == "link" and "href" in own and "canonical" not in own.get("rel", ""):
            self.loads.append(own["href"])
        if tag in LOADED and own.get(LOADED[tag]):
            self.loads.append(own[LOADED[tag]])
        for part in own.get("srcset", "").split(","):
            if part.strip():
                self.loads.append(part.split()[0])


def check_site(site: Path) -> list[str]:
    """List what is wrong with the built pages."""
    pages = {
        path.resolve(): Page(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
        if path.parent.name != "_static"
    }
    problems = []
    for path, page in pages.items():
        where = path.relative_to(site.resolve())
        for address in page.loads:
            if urlsplit(address).scheme in ("http", "https") or address.startswith("//"):
                problems.append(f"{where} loads {address} from the network")
        for address in (*page.links, *page.loads):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                problems.append(f"{where} links to {address}, which is not there")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].places:
                problems.append(f"{where} links to {address}, and there is no such place on that page")
    for path in sorted(site.rglob("*.css")):
        if _OUTSIDE.search(path.read_text(encoding="utf-8", errors="replace")):
            problems.append(f"{path.relative_to(site)} loads something from the network")
    return problems


def check_markdown(root: Path = ROOT) -> list[str]:
    """List the links of README and of the pages' sources that lead nowhere, as a code host reads them."""
    problems = []
    files = [*root.glob("*.md"), *(path for path in (root / "docs").rglob("*.md") if "_build" not in path.parts)]
    for path in sorted(files):
        for address in _LINK.findall(_CODE.sub("", path.read_text(encoding="utf-8"))):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = path.parent / unquote(parts.path) if parts.path else path
            made = "gallery" in target.parts and target.suffix == ".rst"  # made of an example when the site is built
            if made:
                target = root / "examples" / "gallery" / target.with_suffix(".py").name
                if target.name == "index.py":
                    continue
            if not target.exists():
                problems.append(f"{path.relative_to(root)} links to {address}, which is not there")
            elif parts.fragment and target.suffix == ".md" and parts.fragment not in _slugs(target):
                problems.append(f"{path.relative_to(root)} links to {address}, and there is no such heading")
    return problems


def _slugs(path: Path) -> set[str]:
    """Name the headings of a file as code hosts do in addresses."""
    headings = re.findall(r"^#{1,6}\s+(.+?)\s*$", _CODE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def main() -> int:
    """Check the site given on the command line and the Markdown files; say what is wrong."""
    problems = check_markdown() + [problem for site in sys.argv[1:] for problem in check_site(Path(site))]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
