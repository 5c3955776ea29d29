"""What a network makes of a folder of photos: vectors, patches and relevance in one pass, and pictures of them.

    python examples/representation_photos.py [FOLDER] [MODEL] [LAYER] [OUTPUT]

Without a folder it draws scenes for the built-in network. Stop it when you like: the same command goes on.
"""

import sys
from pathlib import Path

import pellucid
from pellucid.files.images import write_image
from pellucid.representation import features_of, patches_of, relevance_maps, sweep, top_activations, vectors
from pellucid.representation.features import last_layer

folder, name, layer, output = (sys.argv[1:] + [""] * 4)[:4]
output = Path(output or "representation")
model = pellucid.load(name or "shapes")
layer = layer or "features.3"
drawn_to, folder = output / "scenes", folder or output / "scenes"
if folder == drawn_to and not drawn_to.exists():
    drawn = pellucid.shapes.scenes(40, seed=1)
    for number, (image, label) in enumerate(zip(drawn.images, drawn.labels.tolist(), strict=True)):
        place = drawn_to / pellucid.shapes.CLASSES[label]
        place.mkdir(parents=True, exist_ok=True)
        write_image(image, place / f"{number}.png")

last = last_layer(model)
measures = [
    vectors(layer, last, "pixels"),
    top_activations(layer),
    top_activations(layer, by="relevance"),
    relevance_maps(),
]
found = sweep(model, folder, measures, folder=output / "run", on_message=print)
print(f"{len(found)} images, {found.forward} forward, {found.backward} backward, {found.seconds:.1f} s")

seen = features_of(found, [layer, last, "pixels"])
k = min(4, len(seen) - 1)
near = {space: pellucid.neighbors(seen[space], k=k, include_self=False) for space in seen.layers}
if (seen.labels >= 0).any():
    for space, one in near.items():
        print(f"{space}: {one.agreement():.0%} of the {k} nearest are of the same class")
near[last].figure(beside=near["pixels"], most=6).savefig(output / "alike.png", bbox_inches="tight")
channels = range(min(8, found.arrays[f"activation.{layer}"].shape[1]))
for by in ("activation", "relevance"):
    patches_of(found, model, layer, channels=channels, k=k, by=by).save(output / f"patches_{by}.png")
strongest = found.arrays["relevance"].flatten(1).abs().amax(1)
print(f"the largest relevance of a pixel is {strongest.max():.3g}; pictures are in {output}")
