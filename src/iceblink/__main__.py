"""`python -m iceblink` is the `iceblink` command."""

import sys

from iceblink.cli.main import main

sys.exit(main())
