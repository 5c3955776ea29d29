"""The command line: parsing, messages and exit codes; the work is done by plain functions elsewhere.

Nothing heavy is imported before a command needs it.
"""

from . import explain as explain
from . import listing as listing
from .group import main as main
