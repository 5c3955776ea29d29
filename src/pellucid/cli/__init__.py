"""The command line: parsing, messages and exit codes; the work is done by plain functions elsewhere.

Nothing heavy is imported before a command needs it.
"""

from . import attack as attack
from . import explain as explain
from . import listing as listing
from . import synthesis as synthesis
from .group import main as main
