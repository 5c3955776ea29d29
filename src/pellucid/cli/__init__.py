"""The command line: parsing, messages and exit codes; the work is done by plain functions elsewhere.

Nothing heavy is imported before a command needs it.
"""

from . import attack as attack
from . import audit as audit
from . import embed as embed
from . import explain as explain
from . import generator as generator
from . import listing as listing
from . import representation as representation
from . import spectrum as spectrum
from . import style as style
from . import synthesis as synthesis
from .group import main as main
