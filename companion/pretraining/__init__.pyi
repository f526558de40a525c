from .config import PretrainingConfig as PretrainingConfig
from .run import pretrain as pretrain
