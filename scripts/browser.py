"""Debian's Chromium (`make browser`), installed by apt, as root.

The tests of the dashboard drive its headless shell, which does without windows; the bench and the pictures the whole.
"""

import os
import shutil
import subprocess
import sys
from typing import Final

_PACKAGES: Final = ("chromium", "chromium-headless-shell")


def main() -> int:
    if all(shutil.which(package) for package in _PACKAGES):
        print("Chromium is there.")
        return 0
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        print(
            "browser: Chromium or its headless shell is not here, and only root can install them with apt:\n"
            f"  sudo apt-get install --no-install-recommends {' '.join(_PACKAGES)}",
            file=sys.stderr,
        )
        return 1
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-qq"], ["install", "-qq", "--no-install-recommends", "-y", *_PACKAGES]):
        done = subprocess.run(["apt-get", *words], env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(f"browser: apt-get {words[0]} failed:\n{done.stderr.strip()}", file=sys.stderr)
            return 1
    print("Chromium is there.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
