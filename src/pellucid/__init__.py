"""pellucid: look inside an image classifier.

What it offers stands in `__init__.pyi`, for this file, for type checkers and for completion alike. Importing the
package imports none of it, nor torch: a name is imported when it is first used.

>>> import pellucid
>>> model = pellucid.load("shapes")
>>> scenes = pellucid.shapes.scenes(1)
>>> result = pellucid.saliency(model, scenes.images)
"""

import sys

import lazy_loader

_lazily, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    if name in __all__:
        return _lazily(name)
    near = ""
    if not name.startswith("_"):  # Python itself asks for such, and needs no advice
        from .names import nearest

        near = f"; {nearest(name, __all__)}"
    raise AttributeError(f"pellucid has no {name!r}{near}", name=name, obj=sys.modules[__name__])
