"""Which faces did a generator make? Their frequencies tell, and so may other things.

    python examples/frequency_faces.py faces/ [folder] [train validation test [splits]]

faces/ holds one folder for each source: A_... the photographs, B_... and other letters those of generators, all of one
size. The numbers say how many images of each are learned from, stopped by and measured on; 700, 100 and 200 by default.
With more splits than 1 the spectrum is also learned and measured on others of the same files.
Written: spectra.png (mean spectra and row averages with a band), weights.png, examples.png, classifier.safetensors.

Frank, Eisenhofer, Schönherr, Fischer, Kolossa & Holz 2020, Leveraging frequency analysis for deep fake image
recognition.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import pellucid
from pellucid import SpectrumClassifier
from pellucid.audit import confounds, halves, labeled_files, split

if len(sys.argv) < 2 or not Path(sys.argv[1]).is_dir():
    print(
        "there are no faces here: give their folder, with one folder in it for each source (A_photographs, B_gan, ...)"
    )
    sys.exit(0)
root = Path(sys.argv[1])
folder = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp())
folder.mkdir(parents=True, exist_ok=True)
sizes = [int(n) for n in sys.argv[3:6]] or [700, 100, 200]

# Mean spectra, over rows too, with a band of one standard deviation.
files = labeled_files(root)
spectra = pellucid.mean_spectra(files.of(0).files, files.of(1).files)
spectra.save(folder / "spectra.png")
print(spectra)

# One linear layer on the normalized log-spectrum; beside it pixels, the average over directions, and no window.
parts = split(files, *sizes)
for features, window in (("pixels", "none"), ("azimuthal", "hann"), ("spectrum", "none"), ("spectrum", "hann")):
    model = SpectrumClassifier.fit(parts, features=features, window=window)
    measured = model.evaluate(parts.test)
    print(f"{features:10} window {window:5} {measured.accuracy}")
print(measured.table())
for window in ("none", "hann"):
    shares = []
    for seed in range(int(sys.argv[6]) if len(sys.argv) > 6 else 0):
        other = split(files, *sizes, seed=seed)
        shares.append(SpectrumClassifier.fit(other, window=window, seed=seed).evaluate(other.test).accuracy.value)
        print(f"split {seed}, window {window}: {shares[-1]:.2%} (mean {sum(shares) / len(shares):.2%})")
model.figure().savefig(folder / "weights.png", dpi=110)
model.save(folder / "classifier.safetensors")

# Which pixels: integrated gradients, back through the Fourier transform.
rows = [0, 1, len(parts.test) - 2, len(parts.test) - 1]
images = model.read(list(parts.test.rows(rows).files))
found = model.explain(images)
print("convergence delta:", ", ".join(f"{gap:.1e}" for gap in found.convergence_delta.tolist()))
found.save(folder / "examples.png", smoothing=1.5)

# Is it to be believed? Two halves of the photographs, and what tells them apart without any spectrum.
control = split(halves(files.of(0)), *(max(1, n // 2) for n in sizes))
print("two halves of the photographs:", SpectrumClassifier.fit(control).evaluate(control.test).accuracy)
other = confounds(parts)
print(other.table())
print(other.verdict(measured.accuracy.value))
print("wrote spectra, weights, examples and classifier to", folder)
