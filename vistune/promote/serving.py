"""The file that MLflow keeps with a registered model and runs when it loads it (models from code)."""

from vistune import tracking
from vistune.promote.answerer import Answerer

tracking.serve(Answerer())
