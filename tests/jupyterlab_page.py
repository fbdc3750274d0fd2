"""A JupyterLab server of the tests' own, and pages that look at it."""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

NO_NEWS = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}


@contextmanager
def server(root, home):
    """Run JupyterLab over a folder; give its address and its token.

    Args:
        root: Path of the folder that it shows.
        home: Path of an empty folder: no setting of whoever runs the tests plays a part.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR")
    places += ("JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR", "HOME")
    environment = {**os.environ, **{place: str(home / place.lower()) for place in places}}
    settings = home / "jupyterlab_settings_dir" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(NO_NEWS))
    token, address = secrets.token_hex(16), f"http://127.0.0.1:{port}"
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.root_dir": root,
        "IdentityProvider.token": token,
        "LabApp.news_url": None,
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        "LabApp.extension_manager": "readonly",
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--{name}={value}" for name, value in options.items()]
    with open(home / "log", "wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=root)
    try:
        wait_for(address, token, process, home / "log")
        yield address, token
    finally:
        process.terminate()  # it ends its kernels
        process.wait(timeout=30)


def wait_for(address, token, process, log, seconds=60):
    """Wait until the server answers; raise RuntimeError with its log when it does not."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{address}/api/status?token={token}", timeout=5).close()
            return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab does not answer:\n{log.read_text()[-3000:]}")


def new_page(browser, address, problems):
    """Return an empty page of a browser.

    Args:
        browser: see `chromium.chromium`.
        address: where the server is; whatever asks for another host is a problem.
        problems: list to which errors of the console, of scripts and of requests are added.
    """

    def request(sent):
        if not sent.url.startswith((address, address.replace("http", "ws"), "blob:", "data:")):
            problems.append(f"asked for {sent.url}")

    def console(message):
        if message.type == "error":
            problems.append(f"console: {message.text}")

    page = browser.new_page(viewport={"width": 1400, "height": 900}, has_touch=True)
    page.on("request", request)
    page.on("console", console)
    page.on("pageerror", lambda error: problems.append(f"script: {error}"))
    page.set_default_timeout(30_000)
    return page


def open_notebook(page, address, token, name):
    """Open a notebook in JupyterLab with the side bar closed, and wait until all of it is there.

    Each time in a workspace of its own: to reset one makes JupyterLab build the page twice.
    """
    page.goto(f"{address}/lab/workspaces/{secrets.token_hex(4)}/tree/{name}?token={token}")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_selector("[data-status='idle'].jp-Notebook-ExecutionIndicator", state="attached")
    page.wait_for_selector("#jp-main-statusbar >> text=/Python 3.*Idle/")  # the kernel is connected
    page.keyboard.press("Control+B")


def run_all(page):
    """Choose "Run All Cells" in the menu."""
    page.locator(".lm-MenuBar-itemLabel").get_by_text("Run", exact=True).click()
    page.locator(".lm-Menu-itemLabel").get_by_text("Run All Cells", exact=True).click()
