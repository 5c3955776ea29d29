"""What up-sampling leaves in the spectrum, without any generator: patches of two photographs, made smaller and larger.

    python examples/frequency_upsampling.py [folder] [patches]

The last step of most generators is an up-sampling. Here it is the only one, so that what a classifier finds is its
trace. Written: photos/ (A_photos, B_nearest, C_bilinear, D_transposed) and spectra_*.png.

Durall, Keuper & Keuper 2020, Watch your up-convolution: CNN based generative deep neural networks are failing to
reproduce spectral distributions.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import pellucid
from pellucid import SpectrumClassifier
from pellucid.audit import halves, labeled_files, split, upsampled_photos

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
patches = int(sys.argv[2]) if len(sys.argv) > 2 else 520
root = upsampled_photos(folder / "photos", most=patches)
sizes = [6 * patches // 10, patches // 10, 3 * patches // 10]

for way in ("B_nearest", "C_bilinear", "D_transposed"):
    spectra = pellucid.mean_spectra(root / "A_photos", root / way)
    spectra.save(folder / f"spectra_{way[2:]}.png")
    parts = split([root / "A_photos", root / way], *sizes)
    for features in ("spectrum", "azimuthal", "pixels"):
        measured = SpectrumClassifier.fit(parts, features=features).evaluate(parts.test)
        print(f"{way[2:]:10} {features:10} {measured.accuracy}")

parts = split(root, *sizes, classes="folders")
print(SpectrumClassifier.fit(parts).evaluate(parts.test).table())
control = split(halves(labeled_files(root).of(0)), *(n // 2 for n in sizes))
print("two halves of the photos:", SpectrumClassifier.fit(control).evaluate(control.test).accuracy)
print("wrote", folder)
