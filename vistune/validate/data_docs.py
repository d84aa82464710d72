"""Great Expectations' pages as part of a release: two files that need no network and do not change between runs.

As built, the pages load styles and scripts from a dozen hosts, report the viewer to one, and hold random ids and the
time. What is kept is their content, under a style sheet of its own.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from vistune.errors import VistuneError
from vistune.files import write_text

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

REMOVED = (
    re.compile(r"<script\b.*?</script>", re.DOTALL),
    re.compile(r"<style\b.*?</style>", re.DOTALL),
    re.compile(r"<link\b[^>]*>"),
    re.compile(r"<footer\b.*?</footer>", re.DOTALL),
    re.compile(r"<tr>(?:(?!</tr>).)*(?:ge_load_time|Run Time)(?:(?!</tr>).)*</tr>", re.DOTALL),
    re.compile(r" / 2000-01-01T00:00:00(?:\.0+)?Z"),
    re.compile(r"<br> Data asset: None"),
)

LOGO = re.compile(r"<img\b[^>]*great-expectations-web-assets[^>]*>")

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 1100px; padding: 0 1rem 3rem; color: #222; }
nav ol { list-style: none; padding: 0; color: #666; } nav li { display: inline; margin-right: .5rem; }
.sticky, .ge-cta-footer, .btn { display: none; }
h4, h5 { margin: 1.4rem 0 .3rem; } .alert-secondary { border-bottom: 2px solid #e0e0e0; }
table { border-collapse: collapse; width: 100%; margin: .4rem 0; }
td, th { border-bottom: 1px solid #e5e5e5; padding: .3rem .6rem; text-align: left; vertical-align: top; }
.ge-success-icon::before, .fa-check-circle::before { content: "\\2713"; color: #1a7f37; font-style: normal; }
.ge-failed-icon::before, .fa-times::before { content: "\\2717"; color: #cf222e; font-style: normal; }
.fa-exclamation-triangle::before { content: "\\26A0"; color: #9a6700; font-style: normal; }
.collapse { display: none; } .collapse:target { display: block; }
.popover, .tooltip, .cooltip .top { display: none; }
"""


def write_pages(site: Path, output: Path, title: str) -> None:
    """Writes `index.html` (the result) and `suite.html` (the expectations) of a built site to `output`."""
    pages = {"index.html": "validations/**/*.html", "suite.html": "expectations/*.html"}
    shutil.rmtree(output, ignore_errors=True)
    for name, pattern in pages.items():
        found = sorted(site.glob(pattern))
        if len(found) != 1:
            raise VistuneError(
                f"Great Expectations built {len(found)} pages like {pattern}, expected one. Check its version against "
                "constraints.txt."
            )
        write_text(output / name, clean(found[0].read_text(encoding="utf-8"), title))


def clean(page: str, title: str) -> str:
    """One page without scripts, foreign hosts, times and random ids."""
    for pattern in REMOVED:
        page = pattern.sub("", page)
    page = LOGO.sub("Great Expectations", page)
    page = re.sub(r'href="[^"]*expectations/[^"/]*\.html"', 'href="suite.html"', page)
    page = re.sub(r'href="[^"]*index\.html"', 'href="index.html"', page)
    page = re.sub(r"<title>.*?</title>", "", page, flags=re.DOTALL)
    numbers: dict[str, str] = {}
    page = UUID.sub(lambda m: numbers.setdefault(m.group(), f"n{len(numbers) + 1}"), page)
    page = page.replace("</head>", f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>", 1)
    return re.sub(r"[ \t]*\n\s*\n", "\n", page)
