"""BERT from the ground up: tokenizer, model, pre-training, fine-tuning and applications, as the book derives them.

The names stand in `__init__.pyi` and are loaded when they are first used, so that `import companion` costs nothing.
"""

from importlib.metadata import PackageNotFoundError, version

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

try:
    __version__ = version("bert-companion")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0.0.0"

del PackageNotFoundError, lazy_loader, version
