"""The main job: files in, what a model looks at in each of them out."""

from .job import DEFAULTS as DEFAULTS
from .job import Explained as Explained
from .job import explain as explain
