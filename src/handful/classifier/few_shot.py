"""``FewShotClassifier``: encoder + method + classes. Fit, predict, evaluate, save, load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from handful.classifier.answers import Answer, Ask, answers, check_ask
from handful.classifier.correction import GivenCorrection, open_correction, settings_with
from handful.classifier.gather import Gathered, Shots, gather_features, gather_images
from handful.classifier.identity import EncoderIdentity
from handful.classifier.labels import Images, columns_of, judged_rows, source_of
from handful.classifier.trust import Trust
from handful.classifier.tuned import SavedTuning, check_method, fit_tuned, head_kind, is_tuning
from handful.datasets.images import ImageSource, LabelledImages
from handful.datasets.sentences import SentenceRecord, Sentences, class_sentences
from handful.datasets.source import is_features_file
from handful.encoders.default import default_encoder
from handful.encoders.joint import Given, encoder_from, specs_of
from handful.encoders.protocol import Encoder
from handful.encoders.templates import resolve_templates
from handful.encoders.unprojected import UnprojectedEncoder
from handful.errors import InputError
from handful.evaluation.calibrate import Calibration
from handful.evaluation.calibration import reliability
from handful.evaluation.conformal_quality import measured
from handful.evaluation.estimate import Estimate, estimate_accuracy
from handful.evaluation.report import Evaluation, evaluate_probabilities
from handful.features.digests import row_digests
from handful.features.extract import EncodedImages, encode_images, stream_images
from handful.features.file import Features, load_features
from handful.features.store import FeatureStore
from handful.features.texts import refuse_blind
from handful.functional.pooling import POOLINGS, Pooling
from handful.methods.head import Head
from handful.methods.registry import DEFAULT_METHOD
from handful.selection.select import select
from handful.tuning.corrected_encoder import CorrectedEncoder, correct_features, corrected
from handful.tuning.correction import Correction
from handful.tuning.tuned_encoder import TunedEncoder

__all__ = ["FewShotClassifier"]

_MOST_VIEWS = 1000
_SEEDS = 2**32  # scikit-learn takes no larger one


class FewShotClassifier:
    """A classifier of images that learns new classes from a handful of examples.

    Args:
        encoder: a spec such as ``lite``, or an encoder, or a list of several of these for methods
            that take several; None: ``lite`` for images.
        method: a name of :func:`handful.methods.names`.
        templates: name of a template set, or templates with one ``{}``; None: the encoder's own,
            or none where there are ``prompts``.
        prompts: sentences about each class, as a language model writes: a JSON file
            ``{"class": ["sentence", …], …}``, or what it holds; read after the templates.
        text_pool: how several templates become one class embedding; see
            :mod:`handful.functional.pooling`.
        shots: images per class to learn from, drawn by CoOp's sampler, or ``all``.
        select: ``val``, ``cv``, ``fixed``, or None for the best that the images allow.
        views: augmented encodings per support image, for methods that can use them.
        seed: of sampling, views, folds and training.
        settings: settings of the method that are fixed by you instead of searched.
        correction: a second image space of the encoder, in which methods that compare images with
            images do so: the file that ``handful correct train`` wrote, or what it holds.
        strict: an unreadable training image is an error instead of being left out.

    Attributes:
        classes_: labels, in the order of the columns of ``predict_proba``.
        head_: the fitted head.
        estimate_: estimated accuracy on new images, or None where nothing could be held out.
        zero_shot_: the same of the class names alone, or None without text.
        settings_: every setting of the method, as fitted.
        tuned_: the trained encoder, where the method trains inside it.
        correction_: the correction, where one is used.
        trust_: calibration, prediction sets, what tells strangers, and the support images; None in
            a classifier saved before there were such.
        gathered_: what was learnt from; None in a loaded classifier.
        encoder_why_: why this encoder, where none was named; else empty.
        verified: false once an encoder or features were used that could not be verified to be of
            the encoder learnt with, which happens with features files that do not tell theirs.

    Examples:
        >>> clf = FewShotClassifier("lite", method="tip-adapter")    # doctest: +SKIP
        >>> clf.fit("photos/").predict(["new.jpg"])                  # doctest: +SKIP
        ['windmill']
    """

    def __init__(
        self,
        encoder: Given | None = None,
        method: str = DEFAULT_METHOD,
        *,
        templates: str | Sequence[str] | None = None,
        prompts: Sentences | None = None,
        text_pool: Pooling = "norm_mean_norm",
        shots: Shots = "all",
        select: str | None = None,
        views: int = 0,
        seed: int = 1,
        settings: Mapping[str, Any] | None = None,
        correction: GivenCorrection | None = None,
        strict: bool = False,
    ) -> None:
        self.encoder = encoder
        self.method = method
        self.templates = templates
        self.prompts = prompts
        self.text_pool: Pooling = text_pool
        self.shots = shots
        self.select = select
        self.views = views
        self.seed = seed
        self.settings = dict(settings or {})
        self.correction = correction
        self.strict = strict
        self._store: FeatureStore | None = None
        self._loaded: Encoder | None = None
        self._corrected: CorrectedEncoder | None = None
        # Set by fit and by load.
        self.classes_: tuple[str, ...] = ()
        self.head_: Head | None = None
        self.encoder_: EncoderIdentity | None = None
        self.templates_: tuple[str, ...] = ()
        self.sentences_: SentenceRecord | None = None
        self.counts_: tuple[int, ...] = ()
        self.digests_: frozenset[str] = frozenset()
        self.selection_: dict[str, Any] = {}
        self.estimate_: Estimate | None = None
        self.zero_shot_: Estimate | None = None
        self.trust_: Trust | None = None
        self.tuned_: TunedEncoder | SavedTuning | None = None
        self.correction_: Correction | None = None
        self.settings_: dict[str, Any] = {}
        self.gathered_: Gathered | None = None
        self.encoder_why_ = ""
        self.verified = True

    # -- learning ------------------------------------------------------------------------------

    def fit(self, images: Images | ImageSource, labels: Sequence[str] | None = None) -> Self:
        """Learn from images.

        Args:
            images: a folder of class folders, a table, ``coop:SPLIT.json@ROOT``, ``hf:NAME``, a
                features file, or a list of image files with ``labels``.
            labels: one label per image of such a list.

        Raises:
            InputError: the images, the method or a setting cannot be used; the message says why.
        """
        check_method(self.method, self.select, self.settings, specs_of(self.encoder))
        self.correction_, self._corrected = open_correction(self.correction), None
        settings = settings_with(self.method, self.settings, self.correction_)
        gathered, identity, templates = self._gather(images, labels)
        if is_tuning(self.method):
            head, identity = self._fit_inside(gathered, templates)
        else:
            task = gathered.task
            head = select(self.method, task, self.select, random_state=self.seed, **settings)
            self.estimate_, self.zero_shot_ = estimate_accuracy(head, task, random_state=self.seed)
            self.trust_ = Trust.learn(head, task, gathered.names, random_state=self.seed)
            self.settings_, self.tuned_ = head.settings(), None
        self.head_ = head
        self.encoder_ = identity
        self.templates_ = templates
        self.sentences_ = gathered.sentences
        self.classes_ = gathered.class_names
        self.counts_ = gathered.counts
        self.digests_ = frozenset(gathered.digests)
        self.selection_ = head.selection_.to_json()
        self.gathered_ = gathered
        return self

    def _fit_inside(
        self, gathered: Gathered, templates: tuple[str, ...]
    ) -> tuple[Head, EncoderIdentity]:
        """Train inside the encoder; return the head for it, and what it is now."""
        assert self._loaded is not None
        sentences = None
        if self.prompts is not None:
            sentences = class_sentences(
                self.prompts, gathered.class_names, needed=self.templates is None
            )
        fitted = fit_tuned(
            self.method,
            self._loaded,
            gathered,
            templates,
            sentences,
            select=self.select,
            seed=self.seed,
            store=self._open_store(),
            settings=self.settings,
        )
        self.estimate_, self.zero_shot_ = fitted.estimate, fitted.zero_shot
        self.trust_, self.tuned_ = fitted.trust, fitted.encoder
        self.settings_ = fitted.encoder.tuning.settings()
        return fitted.head, EncoderIdentity.of_encoder(fitted.encoder.sees_as)

    def _gather(
        self, images: Images | ImageSource, labels: Sequence[str] | None
    ) -> tuple[Gathered, EncoderIdentity, tuple[str, ...]]:
        """Return what is learnt from, with which encoder and which templates."""
        if self.text_pool not in POOLINGS:
            raise InputError(
                f"there is no text pooling '{self.text_pool}': use {' or '.join(POOLINGS)}."
            )
        if self.shots != "all" and self.shots < 1:
            raise InputError(f"shots is {self.shots}: expected 1 or more, or 'all'.")
        if not 0 <= self.views <= _MOST_VIEWS:
            raise InputError(f"views is {self.views}: expected 0 to {_MOST_VIEWS}.")
        if self.views and is_tuning(self.method):
            raise InputError(
                f"views is {self.views}, and method '{self.method}' draws views of its own: leave "
                "it out; a setting of the method says how many."
            )
        if not 0 <= self.seed < _SEEDS:
            raise InputError(f"seed is {self.seed}: expected 0 to {_SEEDS - 1}.")
        single_prompts = head_kind(self.method).uses_prompts
        earlier = head_kind(self.method).before_projection
        if isinstance(images, str | Path) and is_features_file(images):
            if is_tuning(self.method):
                raise InputError(
                    f"{images} holds features, and method '{self.method}' trains inside the "
                    "encoder: give it the images."
                )
            if self.templates is not None or self.prompts is not None or self.views:
                raise InputError(
                    f"{images} holds features: templates, prompts and views are chosen when they "
                    "are made, with 'handful embed'."
                )
            features = load_features(Path(images))
            gathered = gather_features(
                features,
                name=str(images),
                shots=self.shots,
                seed=self.seed,
                keep_prompts=single_prompts,
                before_projection=earlier,
                correction=self.correction_,
            )
            identity = EncoderIdentity.of_features(features, str(images), earlier)
            return gathered, identity, features.templates or ()
        source = source_of(images, labels)
        sentences = None
        if self.prompts is not None:
            sentences = class_sentences(
                self.prompts, source.class_names, needed=self.templates is None
            )
        given = self.encoder
        if given is None and self.encoder_ is not None and self.encoder_.fingerprint is not None:
            given = self.encoder_.spec  # fitted or loaded: it stays with its encoder
        if given is None:
            given, self.encoder_why_ = default_encoder()
            check_method(self.method, self.select, self.settings, specs_of(given))
        encoder = self._load_encoder(given)
        templates = self._templates(encoder)
        gathered = gather_images(
            source,
            self._with_correction(encoder),
            shots=self.shots,
            seed=self.seed,
            templates=templates,
            sentences=sentences,
            text_pool=self.text_pool,
            views=self.views,
            store=self._open_store(),
            strict=self.strict,
            keep_prompts=single_prompts,
        )
        return gathered, EncoderIdentity.of_encoder(encoder), templates

    def _templates(self, encoder: Encoder) -> tuple[str, ...]:
        if self.prompts is not None:
            refuse_blind(encoder)
        if encoder.has_text:
            default = encoder.default_templates if self.prompts is None else ()
            return resolve_templates(self.templates, default)
        if self.method == "zero-shot" or self.templates is not None:
            what = "zero-shot" if self.method == "zero-shot" else "a prompt template"
            raise InputError(
                f"the encoder {encoder.spec} has no text tower, so {what} has nothing to read "
                "class names with: choose another method, which then learns from the images alone, "
                "or a CLIP or SigLIP model."
            )
        return ()

    # -- predicting ------------------------------------------------------------------------------

    def predict(self, images: Images) -> list[str]:
        """Return the most probable label of each image."""
        return [self.classes_[column] for column in self.predict_proba(images).argmax(axis=1)]

    def predict_proba(self, images: Images) -> npt.NDArray[np.float64]:
        """Return calibrated probabilities ``(N, C)``, columns in the order of ``classes_``.

        Raises:
            InputError: an image cannot be read, or the encoder is not the one learnt with.
        """
        parts = [self._proba(X) for _, X, _ in self._seen(images) if len(X)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.classes_)))

    def answer(self, images: Images, **asked: Any) -> list[Answer]:
        """Answer about each image, with as much of the reasons as is asked for.

        Args:
            images: as for ``predict``.
            **asked: see :class:`~handful.classifier.answers.Ask`: ``top``, ``coverage``,
                ``unsure``, ``why``, ``prior``, ``thresholds``.

        Raises:
            InputError: an image cannot be read, or the classifier cannot answer what is asked.
        """
        return [one for part in self.answer_stream(images, **asked) for one in part]

    def answer_stream(self, images: Images, **asked: Any) -> Iterator[list[Answer]]:
        """Yield what :meth:`answer` returns part by part, in bounded memory."""
        ask = Ask(**asked)
        check_ask(self, ask)
        return (answers(self, names, X, ask) for names, X, _ in self._seen(images))

    def predict_stream(
        self, paths: Sequence[Path], *, strict: bool = True
    ) -> Iterator[tuple[list[Path], npt.NDArray[np.float64], EncodedImages]]:
        """Yield paths and their probabilities chunk by chunk, in bounded memory.

        Args:
            paths: image files.
            strict: an unreadable image is an error; else it is left out and reported in the
                third item.
        """
        for names, X, encoded in self._seen(paths, strict=strict):
            assert encoded is not None
            probabilities = self._proba(X) if len(X) else np.empty((0, len(self.classes_)))
            yield [Path(name) for name in names], probabilities, encoded

    def probabilities(self, logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return calibrated probabilities of logits of ``head_``, both ``(N, C)``."""
        return self.calibration.probabilities(logits)

    @property
    def calibration(self) -> Calibration:
        """How probabilities come from logits; plain softmax in classifiers saved before it."""
        return Calibration() if self.trust_ is None else self.trust_.calibration

    def _proba(self, X: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        return self.probabilities(self._fitted().logits(X))

    @property
    def prior(self) -> npt.NDArray[np.float64]:
        """Share of each class that the probabilities are for: that of the support images."""
        counts = np.asarray(self.counts_, dtype=np.float64)
        if self._fitted().settings().get("class_weight") == "balanced":
            counts = np.ones(len(counts))
        shares: npt.NDArray[np.float64] = np.maximum(counts, 1) / np.maximum(counts, 1).sum()
        return shares

    def _seen(
        self, images: Images, *, strict: bool = True
    ) -> Iterator[tuple[list[str], npt.NDArray[Any], EncodedImages | None]]:
        """Yield names and features of images, or of the rows of a features file, in chunks.

        Raises:
            InputError: an image cannot be read, or was made by another encoder.
        """
        self._fitted()
        if isinstance(images, str | Path) and is_features_file(images):
            features = load_features(Path(images))
            X = self._both(self._rows(features, str(images)))
            yield list(features.row_names), X, None
            return
        paths = [Path(images)] if isinstance(images, str | Path) else [Path(i) for i in images]
        chunks = stream_images(
            self.own_encoder(), paths, store=self._open_store(), strict=strict, label="predicting"
        )
        for chunk, encoded in chunks:
            yield [str(chunk[row]) for row in encoded.kept], encoded.features[:, 0], encoded

    def evaluate(
        self,
        images: Images | ImageSource | LabelledImages,
        *,
        coverage: float | None = None,
    ) -> Evaluation:
        """Compare predictions with labels: on the test split where there is one, else on all.

        Args:
            images: as for ``fit``, or labelled images.
            coverage: also measure prediction sets of this coverage.

        Raises:
            InputError: a label is none of the classes, an image cannot be read, or the held-out
                images cannot support the coverage.
        """
        self._fitted()
        check_ask(self, Ask(coverage=coverage))
        if isinstance(images, str | Path) and is_features_file(images):
            features = load_features(Path(images))
            rows, labels = judged_rows(features, str(images), self.classes_)
            X = self._rows(features, str(images))[rows]
            found = self._judged(self._both(X), labels, coverage)
            return replace(found, **self._seen_before(row_digests(X)))
        if not isinstance(images, LabelledImages):
            if not isinstance(images, ImageSource):
                images = source_of(images, None, to_learn=False)
            name, images = images.name, images.for_test()
            if not len(images):
                raise InputError(f"{name} has validation images only: none to evaluate on.")
        columns = columns_of(images, self.classes_)
        encoded = encode_images(
            self.own_encoder(), images.paths, store=self._open_store(), strict=self.strict
        )
        labels = columns[images.labels[encoded.kept]]
        if not len(labels):
            raise InputError(
                f"none of the {len(images)} images to evaluate on can be read (for one, "
                f"{images.paths[0]}): replace them."
            )
        found = self._judged(encoded.features[:, 0], labels, coverage)
        return replace(found, skipped=encoded.skipped, **self._seen_before(encoded.digests))

    def _seen_before(self, digests: Sequence[str]) -> dict[str, Any]:
        """Return how many of the images the classifier and its correction were taught."""
        correction = self.correction_
        return {
            "seen_in_training": sum(digest in self.digests_ for digest in digests),
            "seen_by_correction": 0 if correction is None else correction.taught(digests),
        }

    def _judged(
        self, X: npt.NDArray[Any], labels: npt.NDArray[np.int64], coverage: float | None
    ) -> Evaluation:
        logits = self._fitted().logits(X)
        probabilities = self.probabilities(logits)
        found = evaluate_probabilities(probabilities, labels, self.classes_)
        if self.calibration.kind != "none":
            before = Calibration().probabilities(logits)
            found = replace(found, bins_before=reliability(before, labels))
        if coverage is not None:
            assert self.trust_ is not None and self.trust_.sets is not None
            sets = self.trust_.sets.sets(probabilities, coverage)
            found = replace(found, sets=measured(sets, labels))
        return found

    def _rows(self, features: Features, name: str) -> npt.NDArray[Any]:
        earlier = self._fitted().before_projection
        assert self.encoder_ is not None
        tuned = self.tuned_
        if (
            tuned is not None
            and not features.fingerprint
            and (self.encoder_.fingerprint != tuned.base_fingerprint)
        ):
            raise InputError(
                f"{name} does not tell the fingerprint of its encoder, and method '{self.method}' "
                "has trained that of this classifier, so that its features would be others: give "
                "the images."
            )
        self.verified = self.encoder_.check_features(features, name, earlier)
        return features.before_projection(name)[0] if earlier else features.image_features

    def _both(self, X: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return features as the head takes them: with a correction those of both spaces."""
        return X if self.correction_ is None else correct_features(X, self.correction_)

    # -- saving ------------------------------------------------------------------------------------

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write ``config.json``, ``model.safetensors`` and ``README.md``, whole or not at all.

        Raises:
            InputError: ``folder`` exists and ``overwrite`` is false, or cannot be written.
        """
        from handful.classifier.saved import save_classifier

        self._fitted()
        return save_classifier(self, Path(folder), overwrite=overwrite)

    @classmethod
    def load(cls, folder: str | Path, *, encoder: Given | None = None) -> Self:
        """Read a saved classifier.

        Args:
            folder: what :meth:`save` wrote.
            encoder: another spec of the same encoder, or a list where it learnt with several; for a
                classifier that was fitted on a features file, the encoder to use for images, which
                cannot be verified.

        Raises:
            InputError: something is missing, damaged, or from a newer version.
        """
        from handful.classifier.saved import load_classifier

        return load_classifier(cls, Path(folder), encoder)

    # -- the encoder -------------------------------------------------------------------------------

    def _load_encoder(self, given: Given) -> Encoder:
        if self._loaded is None:
            encoder = encoder_from(given)
            earlier = head_kind(self.method).before_projection
            self._loaded = UnprojectedEncoder(encoder) if earlier else encoder
        return self._loaded

    def _with_correction(self, encoder: Encoder) -> Encoder:
        if self.correction_ is None:
            return encoder
        if self._corrected is None:
            self._corrected = corrected(encoder, self.correction_)
        return self._corrected

    def own_encoder(self) -> Encoder:
        """Return the encoder learnt with, trained or corrected where it is.

        Raises:
            InputError: it is another one now, whose answers would be silently wrong, or none is
                known.
        """
        identity = self.encoder_
        assert identity is not None
        if identity.fingerprint is None and self.encoder is None:
            raise InputError(
                "this classifier was fitted on a features file that does not tell its encoder: "
                "give it features, or name the encoder with --encoder (encoder=…)."
            )
        encoder = self._load_encoder(identity.spec if self.encoder is None else self.encoder)
        if self.tuned_ is not None:
            if isinstance(self.tuned_, SavedTuning):
                self.tuned_ = self.tuned_.opened(encoder)
            encoder = self.tuned_.sees_as
        self.verified = identity.check_encoder(encoder)
        return self._with_correction(encoder)

    def _open_store(self) -> FeatureStore:
        if self._store is None:
            self._store = FeatureStore()
        return self._store

    def _fitted(self) -> Head:
        if self.head_ is None:
            raise InputError("this classifier is not fitted yet: call fit first, or load one.")
        return self.head_
