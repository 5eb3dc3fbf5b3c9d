"""``FewShotClassifier``: an encoder, a head and the classes, from images to a saved folder."""

from handful.classifier.few_shot import FewShotClassifier

__all__ = ["FewShotClassifier"]
