"""Does a network rest on the right evidence, over a whole data set?"""

from .clever_hans import clever_hans as clever_hans
from .confounds import confounds as confounds
from .image_files.confounds_result import Confounds as Confounds
from .image_files.evaluation import Evaluation as Evaluation
from .labeled_files import halves as halves
from .labeled_files import labeled_files as labeled_files
from .labeled_files import split as split
from .log_spectrum import log_spectrum as log_spectrum
from .mean_spectra import MeanSpectra as MeanSpectra
from .mean_spectra import mean_spectra as mean_spectra
from .relevance_clusters.result import AuditedClass as AuditedClass
from .relevance_clusters.result import CleverHans as CleverHans
from .relevance_clusters.result import Cluster as Cluster
from .spectrum_audit import SpectrumAudit as SpectrumAudit
from .spectrum_audit import spectrum_audit as spectrum_audit
from .spectrum_classifier import SpectrumClassifier as SpectrumClassifier
from .upsampled_photos import upsampled_photos as upsampled_photos
