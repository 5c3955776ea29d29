"""The command line: parsing, messages and exit codes; the work is done by plain functions elsewhere.

Nothing heavy is imported before a command needs it.
"""

# In the order in which help lists them.
# isort: off
from . import explain as explain
from . import audit as audit
from . import synthesis as synthesis
from . import style as style
from . import generator as generator
from . import attack as attack
from . import spectrum as spectrum
from . import representation as representation
from . import embed as embed
from . import listing as listing

# isort: on
from .group import main as main
