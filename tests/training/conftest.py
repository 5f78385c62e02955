"""Makes the small model importable by its name, also for the programs the tests start."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
