"""Make asv's pages bring their libraries along: no request leaves the site.

python localise.py SITE NODE_MODULES
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

LIBRARIES = {
    "jquery-3.3.1.min.js": "jquery/dist/jquery.min.js",
    "bootstrap.min.css": "bootstrap/dist/css/bootstrap.min.css",
    "bootstrap.min.js": "bootstrap/dist/js/bootstrap.min.js",
    "jquery.flot.min.js": "flot/jquery.flot.js",
    "jquery.flot.time.min.js": "flot/jquery.flot.time.js",
    "jquery.flot.selection.min.js": "flot/jquery.flot.selection.js",
    "jquery.flot.categories.min.js": "flot/jquery.flot.categories.js",
    "jquery.flot.orderBars.js": "flot-orderbars/js/jquery.flot.orderBars.js",
    "md5.min.js": "blueimp-md5/js/md5.min.js",
    "stupidtable.min.js": "stupid-table-plugin/stupidtable.min.js",
}
"""Name in the address that asv writes -> file of a package."""
LOADED = re.compile(r'(?P<name>src|href)\s*=\s*"https://[^"]+/(?P<file>[^"/]+\.(?:js|css))"')
CHECKS = re.compile(r'\s(?:integrity|crossorigin)\s*=\s*"[^"]*"')


def main(site: Path, modules: Path) -> None:
    """Copy the libraries next to the pages, and make the pages use them."""
    (site / "libraries").mkdir(exist_ok=True)
    for page in site.glob("*.html"):
        text = CHECKS.sub("", page.read_text(encoding="utf-8"))
        for name in LOADED.finditer(text):
            shutil.copyfile(modules / LIBRARIES[name["file"]], site / "libraries" / name["file"])
        page.write_text(LOADED.sub(r'\g<name>="libraries/\g<file>"', text), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
