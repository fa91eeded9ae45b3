"""Opens a report in headless Chromium, 1280 and 400 pixels wide and as a PDF, and looks whether it works: `make browser-test`.

Without arguments the report is of a suite that nobody ran (report/examples/made_up.rs); a report.html of one's own may be named. Screenshots
and the PDF are left in target/browser.
"""

import html
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "target" / "browser"
# Chromium's windows are 500 pixels wide at least; a frame may be narrower.
FRAME = """<!doctype html><style>body {{ margin: 0 }}</style>
<iframe src="{page}" style="width: {width}px; height: {height}px; border: 0"></iframe><pre id="found"></pre>
<script>addEventListener("message", (event) => document.getElementById("found").textContent = event.data)</script>"""
CHECKS = (Path(__file__).parent / "checks.js").read_text()
# Without a sandbox, for it needs rights that containers do not give; the page is our own.
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr", "--log-level=0"]


def chromium(page, *flags):
    """Standard output, and the lines that the page's console was given."""
    program = shutil.which("chromium") or shutil.which("google-chrome") or sys.exit("browser test: needs chromium; `make browser-test` installs it")
    done = subprocess.run([program, *FLAGS, *flags, page.as_uri()], capture_output=True, text=True, timeout=300, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


def problems(page, width):
    """What checks.js finds at this width."""
    copy = OUT / f"checked-{width}.html"
    copy.write_text(page.read_text() + f"<script>const WIDTH = {width};\n{CHECKS}</script>")
    frame = OUT / f"frame-{width}.html"
    frame.write_text(FRAME.format(page=copy.name, width=width, height=900))
    dom, console = chromium(frame, "--window-size=1400,1000", "--virtual-time-budget=20000", "--dump-dom")
    found = re.search(r'<pre id="found">checked\n?(.*?)</pre>', dom, re.S)
    lines = html.unescape(found[1]).splitlines() if found else ["the checks did not come to their end"]
    frame.write_text(FRAME.format(page=page.as_uri(), width=width, height=6000))
    chromium(frame, f"--window-size={max(width, 500)},6000", f"--screenshot={OUT / f'report-{width}.png'}")
    return [f"{width} pixels: {line}" for line in lines + console]


def paper(page):
    """Whether it prints."""
    pdf = OUT / "report.pdf"
    _, console = chromium(page, "--no-pdf-header-footer", f"--print-to-pdf={pdf}")
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes()))
    return console + ([] if 2 <= pages <= 60 else [f"{pages} pages of paper"])


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    if len(sys.argv) > 1:
        page = Path(sys.argv[1]).resolve()
    else:
        command = ["cargo", "run", "--quiet", "-p", "camtrast-report", "--example", "made_up", "--", OUT / "suite"]
        subprocess.run(command, cwd=ROOT, check=True)
        page = OUT / "suite" / "report.html"
    found = problems(page, 1280) + problems(page, 400) + paper(page)
    for line in found:
        print(f"browser test: {line}")
    if found:
        sys.exit(1)
    print(f"browser test: passed; pictures in {OUT.relative_to(ROOT)}")


main()
