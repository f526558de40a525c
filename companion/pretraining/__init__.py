"""Pre-training: text to token ids on disk, segment pairs, masks, objectives and the run itself."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

del lazy_loader
