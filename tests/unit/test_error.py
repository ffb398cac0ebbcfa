"""The exceptions: code, text, and that each survives pickling with everything it carries."""

from __future__ import annotations

import copy
import pickle

import pytest

from dbos import error as errors
from dbos.serialization.codec import Codec

# Each class with arguments, its code, and words that its text must hold.
EXAMPLES: list[tuple[BaseException, int | None, list[str]]] = [
    (errors.DBOSException("it went wrong"), None, ["it went wrong"]),
    (errors.DBOSInitializationError("no name"), 3, ["no name"]),
    (errors.DBOSConflictingRegistrationError("f"), 25, ["'f'", "name="]),
    (errors.DBOSWorkflowFunctionNotFoundError("w", "f"), 4, ["'w'", "'f'", "launch"]),
    (errors.DBOSNonExistentWorkflowError("w"), 5, ["'w'"]),
    (errors.DBOSConflictingWorkflowError("w", "recorded_f", "called_f"), 9, ["'w'", "recorded_f", "called_f"]),
    (errors.DBOSWorkflowConflictIDError("w"), 1, ["'w'"]),
    (errors.DBOSUnexpectedStepError("w", 7, "called", "recorded"), 11, ["'w'", "7", "'called'", "'recorded'"]),
    (
        errors.DBOSMaxStepRetriesExceeded("f", 3, [ValueError("one"), KeyError("two")]),
        7,
        ["Step f has exceeded its maximum of 3 retries"],
    ),
    (errors.DBOSSerializationError("cannot be serialized"), 16, ["cannot be serialized"]),
    (errors.DBOSPortableError("module.Type", "the text"), 17, ["module.Type: the text"]),
    (errors.DBOSNotAuthorizedError("none of the roles"), 8, ["none of the roles"]),
    (errors.DBOSQueueDeduplicatedError("w", "q", "d"), 12, ["'w'", "'q'", "'d'"]),
    (errors.DBOSAwaitedWorkflowCancelledError("w"), 13, ["'w'", "cancelled"]),
    (errors.DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded("w"), 14, ["'w'", "recovered"]),
    (errors.MaxRecoveryAttemptsExceededError("w", 100), 6, ["'w'", "100"]),
    (errors.DBOSWorkflowCancelledError("cancelled"), 10, ["cancelled"]),
]

every_class = pytest.mark.parametrize(("error", "code", "words"), EXAMPLES, ids=lambda value: type(value).__name__)


def test_the_examples_are_all_there_is() -> None:
    """And what is public is exported."""
    classes = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, BaseException)}
    assert {type(error) for error, _, _ in EXAMPLES} == classes == {getattr(errors, name) for name in errors.__all__}
    assert len(EXAMPLES) == len(classes)


@every_class
def test_every_error_has_its_code_and_tells_what_happened(
    error: BaseException, code: int | None, words: list[str]
) -> None:
    assert error.dbos_error_code == code  # type: ignore[attr-defined]
    assert str(error).startswith("" if code is None else f"DBOS Error {code}: ")
    for word in words:
        assert word in str(error)


def test_no_code_means_two_things() -> None:
    codes = [code for _, code, _ in EXAMPLES if code is not None]
    assert len(codes) == len(set(codes))


@every_class
def test_every_error_survives_pickling(error: BaseException, code: int | None, words: list[str]) -> None:
    """With type, text, code and attributes: by pickle, by a copy, and by the codec."""
    error.__notes__ = ["a note"]
    encoded = Codec().encode_error(error)
    assert encoded.format == "pickle"
    for other in (
        pickle.loads(pickle.dumps(error)),
        pickle.loads(pickle.dumps(error, protocol=2)),
        copy.copy(error),
        Codec().decode_error(encoded.text, encoded.format),
    ):
        assert type(other) is type(error)
        assert (str(other), other.args) == (str(error), error.args)
        assert {name: repr(value) for name, value in vars(other).items()} == {
            name: repr(value) for name, value in vars(error).items()
        }
    del error.__notes__


def test_a_subclass_of_the_application_survives_pickling() -> None:
    original = ApplicationError(7, "detail")
    other = pickle.loads(pickle.dumps(original))
    assert (type(other), str(other), vars(other)) == (ApplicationError, str(original), vars(original))


class ApplicationError(errors.DBOSException):
    """Takes other arguments than its base."""

    code = 1234

    def __init__(self, number: int, detail: str) -> None:
        super().__init__(f"{detail} {number}")
        self.number = number


def test_all_errors_are_caught_by_their_root_but_the_cancellation() -> None:
    """Which `except Exception` in a workflow must not swallow."""
    for error, _, _ in EXAMPLES:
        is_cancellation = isinstance(error, errors.DBOSWorkflowCancelledError)
        assert isinstance(error, errors.DBOSException) is not is_cancellation
        assert isinstance(error, Exception) is not is_cancellation


def test_errors_carry_what_they_are_about() -> None:
    retries = errors.DBOSMaxStepRetriesExceeded("f", 3, (ValueError("one"),))
    assert (retries.step_name, retries.max_retries, [repr(one) for one in retries.errors]) == (
        "f",
        3,
        ["ValueError('one')"],
    )
    step = errors.DBOSUnexpectedStepError("w", 7, "called", "recorded")
    assert (step.workflow_id, step.step_id) == ("w", 7)
    duplicate = errors.DBOSQueueDeduplicatedError("w", "q", "d")
    assert (duplicate.workflow_id, duplicate.queue_name, duplicate.deduplication_id) == ("w", "q", "d")
    portable = errors.DBOSPortableError("module.Type", "the text")
    assert (portable.type_name, portable.original_message) == ("module.Type", "the text")
