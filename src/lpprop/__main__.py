"""`python -m lpprop` is `lpprop`."""

import sys

from lpprop.cli import main

sys.exit(main())
