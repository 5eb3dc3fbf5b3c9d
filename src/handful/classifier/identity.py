"""Which encoder a classifier belongs to, and the refusal of any other.

Features of another encoder have the same shape and mean something else: without this check the
answers would be wrong and nobody would know.
"""

from __future__ import annotations

from dataclasses import dataclass

from handful.encoders.protocol import Encoder
from handful.encoders.unprojected import unprojected_fingerprint
from handful.errors import InputError
from handful.features.contents import Features

__all__ = ["EncoderIdentity"]


@dataclass(frozen=True)
class EncoderIdentity:
    """The encoder that a classifier was fitted with.

    Attributes:
        spec: its spec; of a features file, what the file says of its encoder, maybe nothing.
        fingerprint: see :class:`~handful.encoders.protocol.Encoder`, and for features before the
            projection :class:`~handful.encoders.unprojected.UnprojectedEncoder`; None if a features
            file does not tell, and then no encoder can be verified.
        dim: width of the features.
    """

    spec: str
    fingerprint: str | None
    dim: int

    @classmethod
    def of_encoder(cls, encoder: Encoder) -> EncoderIdentity:
        """Identify an encoder."""
        return cls(encoder.spec, encoder.fingerprint, encoder.dim)

    @classmethod
    def of_features(
        cls, features: Features, name: str = "", before_projection: bool = False
    ) -> EncoderIdentity:
        """Identify the encoder of a features file as far as the file does.

        Args:
            features: of the file.
            name: of the file, for messages.
            before_projection: whether its features before the projection are meant.

        Raises:
            InputError: they are meant, and not there.
        """
        spec, mark, rows = features.encoder or "", features.fingerprint, features.image_features
        if before_projection:
            rows, _ = features.before_projection(name)
            mark = unprojected_fingerprint(mark) if mark else mark
        return cls(spec, mark, rows.shape[1])

    def check_encoder(self, encoder: Encoder) -> bool:
        """Return whether ``encoder`` is verified to be this one.

        Raises:
            InputError: it is another one.
        """
        if encoder.dim != self.dim:
            raise InputError(
                f"encoder '{encoder.spec}' gives features of width {encoder.dim}, but the "
                f"classifier was fitted on width {self.dim}: name the encoder it was fitted with."
            )
        if self.fingerprint is None:
            return False
        if encoder.fingerprint != self.fingerprint:
            raise InputError(
                f"the classifier was fitted with encoder '{self.spec}' ({self.fingerprint[:8]}), "
                f"but '{encoder.spec}' is now another ({encoder.fingerprint[:8]}): its answers "
                "would be wrong; name the right encoder or fit again."
            )
        return True

    def check_features(
        self, features: Features, name: str, before_projection: bool = False
    ) -> bool:
        """Return whether features are known to be of this encoder: by fingerprint, else by name.

        Args:
            features, name, before_projection: see :meth:`of_features`.

        Raises:
            InputError: width, fingerprint or (where a fingerprint is missing) encoder text differ.
        """
        other = EncoderIdentity.of_features(features, name, before_projection)
        if other.dim != self.dim:
            raise InputError(
                f"{name} has features of width {other.dim}, but the classifier was fitted on width "
                f"{self.dim}: encode with the same encoder."
            )
        if self.fingerprint and other.fingerprint:
            known, differ = True, self.fingerprint != other.fingerprint
        else:
            known = bool(self.spec and other.spec)
            differ = known and self.spec != other.spec
        if differ:
            raise InputError(
                f"{name} was encoded by {other}, but the classifier was fitted with {self}: encode "
                "with the same encoder."
            )
        return known

    def __str__(self) -> str:
        mark = f" ({self.fingerprint[:8]})" if self.fingerprint else ""
        return f"'{self.spec}'{mark}"
