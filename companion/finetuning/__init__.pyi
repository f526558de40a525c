from .classifier import TextClassifier as TextClassifier
from .regressor import TextRegressor as TextRegressor
