"""Fine-tuning: a pre-trained BERT and labelled examples in, a scikit-learn estimator out."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

del lazy_loader
