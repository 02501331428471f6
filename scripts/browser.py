"""Debian's Chromium for the tests of the dashboard (`make browser`): installed by apt, as root."""

import os
import shutil
import subprocess
import sys


def main() -> int:
    if shutil.which("chromium") is not None:
        print("Chromium is there.")
        return 0
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        print(
            "browser: there is no Chromium here, and only root can install one with apt:\n"
            "  sudo apt-get install --no-install-recommends chromium",
            file=sys.stderr,
        )
        return 1
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-qq"], ["install", "-qq", "--no-install-recommends", "-y", "chromium"]):
        done = subprocess.run(["apt-get", *words], env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(f"browser: apt-get {words[0]} failed:\n{done.stderr.strip()}", file=sys.stderr)
            return 1
    print("Chromium is there.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
