"""``python -m campaign [PART [OPTION …]]``: one part, or all; leaves 1 if anything broke.

A part is a module of this folder that runs by itself, prints its counts, and leaves an exit code.
"""

import subprocess
import sys

PARTS = ("kills", "folders", "mistakes")


def run(words: list[str]) -> int:
    """Runs the part that is named, with its options, or all of them."""
    if words and words[0] not in PARTS:
        sys.exit(f"campaign: expected {' or '.join(PARTS)}; got {words[0]!r}")
    broken = []
    for name in words[:1] or PARTS:
        print(f"== {name}", flush=True)
        code = subprocess.run([sys.executable, "-m", f"campaign.{name}", *words[1:]], check=False)
        broken += [name] if code.returncode else []
    print(f"not held: {', '.join(broken)}" if broken else "all of it held")
    return len(broken)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
