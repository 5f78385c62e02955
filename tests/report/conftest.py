from __future__ import annotations

import sys
from pathlib import Path

# The hand-made evidence is shared with the browser's test; test folders are no packages.
sys.path.append(str(Path(__file__).parent))
