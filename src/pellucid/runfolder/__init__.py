"""Run folders: what a verb over many items writes, chunk by chunk, so that it can stop anywhere and go on.

    run/
      manifest.json           verb, model, hash of the weights, options, seed, hash of the items, items in a chunk
      items.json              what the run goes over, in order
      arrays/saliency/        Zarr v3, items first, one file for each chunk
      rows/00000012.parquet   one row for each item of chunk 12; where it is, chunk 12 is finished
      lock                    held by the process that runs; the system frees it when that process ends, however

A chunk is computed by any function of (folder, number) that ends with `write_chunk`: arrays first, then the
rows, which appear by one rename. A chunk is therefore finished or not, and computing it again gives the same.
Nothing else is shared, so that any engine may call the function, in any order, in any process: one process
holds the folder open with `begin`, and its workers use `read`.

    with begin("run", verb="explain", model=..., items=files, options={}, seed=0) as folder:
        for number in pending(folder):
            write_chunk(folder, number, rows, arrays)
"""

from .chunks import Array as Array
from .chunks import DamagedChunk as DamagedChunk
from .chunks import arrays as arrays
from .chunks import blocks as blocks
from .chunks import each_row as each_row
from .chunks import failures as failures
from .chunks import forget as forget
from .chunks import pending as pending
from .chunks import read_chunk as read_chunk
from .chunks import rows as rows
from .chunks import span as span
from .chunks import write_chunk as write_chunk
from .folder import OtherRun as OtherRun
from .folder import RunFolder as RunFolder
from .folder import begin as begin
from .folder import finished as finished
from .folder import holds as holds
from .folder import read as read
from .identity import describe_model as describe_model
from .identity import hash_of as hash_of
from .identity import weights_hash as weights_hash
from .lock import FolderInUse as FolderInUse
from .work import finish as finish
from .work import forget_changed as forget_changed
from .work import forget_damaged as forget_damaged
