from .answerer import QuestionAnswerer as QuestionAnswerer
from .chooser import MultipleChoice as MultipleChoice
from .classifier import TextClassifier as TextClassifier
from .loading import load as load
from .regressor import TextRegressor as TextRegressor
from .tagger import TokenTagger as TokenTagger
