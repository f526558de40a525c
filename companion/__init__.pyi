__version__: str

from .config import BertConfig as BertConfig
from .data.labelled import load_dataset as load_dataset
from .model.encoder import BertModel as BertModel
from .model.heads import BertForMaskedLM as BertForMaskedLM
from .model.heads import BertForMultipleChoice as BertForMultipleChoice
from .model.heads import BertForPreTraining as BertForPreTraining
from .model.heads import BertForQuestionAnswering as BertForQuestionAnswering
from .model.heads import BertForSequenceClassification as BertForSequenceClassification
from .model.heads import BertForTokenClassification as BertForTokenClassification
from .support.devices import seed_everything as seed_everything
from .text.tokenizer import Tokenizer as Tokenizer
