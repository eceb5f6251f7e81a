"""``python -m containai``."""

import sys

from containai.cli.main import main

sys.exit(main())
