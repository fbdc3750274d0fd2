"""Build the course as a web site that works offline, from a folder or a server.

Usage:
    python book/build.py            # into outputs/book
    python book/build.py FOLDER     # into FOLDER, which is new, empty, or holds an earlier site

Every warning of Sphinx is an error. The site is replaced only when all went well, and is built anew each
time, so that no page of a lesson that was renamed stays behind.
"""

import re
import shutil
import sys
import tempfile
from pathlib import Path

from sphinx.cmd.build import main as sphinx

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parent
PAGES = ("notebooks/[0-9][0-9]_*.ipynb", "img/*.svg", "data/README.md")
LINKED = ("data/SHA256SUMS", "tools/build_data.py")
"""Files that a page links to."""


def gather(folder):
    """Copy what the site is made of into a folder, arranged as in the repository, with the front page on top.

    The front page's list of lessons is the README's, so that there is only one to keep.
    """
    for pattern in (*PAGES, *LINKED):
        for path in ROOT.glob(pattern):
            target = folder / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
    if not (ROOT / "tools").exists():  # the learners' copy of the course: the script is named, not linked
        page = folder / "data" / "README.md"
        text = page.read_text(encoding="utf-8")
        page.write_text(re.sub(r"\[([^\]]+)\]\(\.\./tools/[^)]+\)", r"\1", text), encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lessons = readme.partition("\n## Lessons\n")[2].partition("\n## ")[0].strip()
    index = (BOOK / "index.md").read_text(encoding="utf-8")
    index = index.replace("<!-- the table of lessons in README.md -->", lessons)
    (folder / "index.md").write_text(index, encoding="utf-8")


def build(site):
    """Build the site into a folder.

    Args:
        site: Path, new, empty or an earlier site.

    Returns:
        The exit status of Sphinx, 0 when there was no warning.
    """
    if site.exists() and any(site.iterdir()) and not (site / "searchindex.js").exists():
        sys.exit(f"{site} holds something other than a site; name another folder")
    site.parent.mkdir(parents=True, exist_ok=True)
    # Beside the site, so that it can be moved into place at once.
    with tempfile.TemporaryDirectory(prefix=".book-", dir=site.parent) as work:
        source, made = Path(work, "source"), Path(work, "site")
        gather(source)
        options = ["--fail-on-warning", "--keep-going", "--quiet", "--jobs=auto", "--conf-dir", str(BOOK)]
        status = sphinx([*options, "--doctree-dir", str(Path(work, "doctrees")), str(source), str(made)])
        if status == 0:
            shutil.rmtree(site, ignore_errors=True)
            made.rename(site)
    return status


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "outputs" / "book").resolve()
    status = build(folder)
    if status == 0:
        print(f"Open {folder / 'index.html'} in a browser.")
    sys.exit(status)
