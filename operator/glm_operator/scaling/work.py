"""Work in replica-seconds: what requests cost an engine that is well used."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Work:
    """Requests, added up. Token counts are estimates of whoever counted them."""

    requests: float = 0.0
    text: float = 0.0
    """Prompt tokens of text."""
    images: float = 0.0
    """Prompt tokens of images and videos."""
    squares: float = 0.0
    """Sum over the requests of their prompt tokens squared: how unlike they are."""

    def __add__(self, other: Work) -> Work:
        return Work(
            self.requests + other.requests,
            self.text + other.text,
            self.images + other.images,
            self.squares + other.squares,
        )

    def __sub__(self, other: Work) -> Work:
        return Work(
            self.requests - other.requests,
            self.text - other.text,
            self.images - other.images,
            self.squares - other.squares,
        )

    @property
    def prompt(self) -> float:
        """All prompt tokens."""
        return self.text + self.images


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of one replica per token, at the batch that it runs well with."""

    prompt: float
    """Per prompt token, of text and images alike."""
    image: float
    """Per image token on top: the encoder."""
    output: float
    """Per output token."""

    def scaled(self, factor: float) -> Costs:
        """All of them so much dearer."""
        return Costs(self.prompt * factor, self.image * factor, self.output * factor)

    def seconds(self, work: Work, output: float) -> float:
        """Replica-seconds of some requests that answer with `output` tokens each."""
        prompts = work.prompt * self.prompt + work.images * self.image
        return prompts + work.requests * output * self.output

    def squares(self, work: Work, output: float) -> float:
        """Sum of the squared replica-seconds of some requests.

        Taken as if all had the same share of images: only the burst test rests on it.
        """
        if work.prompt <= 0:
            return work.requests * (output * self.output) ** 2
        prompt = self.prompt + self.image * work.images / work.prompt
        answer = output * self.output
        return (
            prompt * prompt * work.squares
            + 2 * prompt * answer * work.prompt
            + work.requests * answer * answer
        )
