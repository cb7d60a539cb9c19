"""`python -m lit_invert`: the same as the command `lit-invert`."""

import sys

from .cli import main

sys.exit(main())
