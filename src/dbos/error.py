"""The exceptions that the library raises.

    Exception
    └── DBOSException                                    everything below, with a code
        ├── DBOSInitializationError                      configuration, database, life cycle
        ├── DBOSConflictingRegistrationError             two functions, classes or instances of one name
        ├── DBOSWorkflowFunctionNotFoundError            a recorded workflow nobody registered
        ├── DBOSNonExistentWorkflowError                 no workflow has this id
        ├── DBOSConflictingWorkflowError                 the id belongs to another function or instance
        ├── DBOSWorkflowConflictIDError                  the id is taken
        ├── DBOSUnexpectedStepError                      replay met another step than it recorded
        ├── DBOSMaxStepRetriesExceeded                   a step failed at every attempt
        ├── DBOSSerializationError                       a value that cannot be stored
        ├── DBOSPortableError                            stands for an exception that could not be stored
        ├── DBOSNotAuthorizedError                       none of the required roles
        ├── DBOSQueueDeduplicatedError                   the deduplication id is in use
        ├── DBOSAwaitedWorkflowCancelledError            the awaited workflow was cancelled
        ├── DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded
        └── MaxRecoveryAttemptsExceededError             a workflow was recovered too often
    BaseException
    └── DBOSWorkflowCancelledError                       raised *inside* a cancelled workflow

A ``DBOSWorkflowCancelledError`` is a ``BaseException`` so that an ``except Exception`` in a workflow does not
swallow its cancellation.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "DBOSAwaitedWorkflowCancelledError",
    "DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded",
    "DBOSConflictingRegistrationError",
    "DBOSConflictingWorkflowError",
    "DBOSException",
    "DBOSInitializationError",
    "DBOSMaxStepRetriesExceeded",
    "DBOSNonExistentWorkflowError",
    "DBOSNotAuthorizedError",
    "DBOSPortableError",
    "DBOSQueueDeduplicatedError",
    "DBOSSerializationError",
    "DBOSUnexpectedStepError",
    "DBOSWorkflowCancelledError",
    "DBOSWorkflowConflictIDError",
    "DBOSWorkflowFunctionNotFoundError",
    "MaxRecoveryAttemptsExceededError",
]


class DBOSException(Exception):
    """The root of the library's exceptions.

    Attributes:
        message: What happened and what to do, without the code.
        dbos_error_code: The number of the kind of error, ``None`` where the kind has none.
    """

    code: int | None = None

    def __init__(self, message: str, dbos_error_code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.dbos_error_code = self.code if dbos_error_code is None else dbos_error_code

    def __str__(self) -> str:
        return _numbered(self.dbos_error_code, self.message)

    def __reduce__(self) -> tuple[object, ...]:
        # Subclasses build their message from parts; rebuilding by the message alone would lose the parts.
        return (_rebuild, (type(self), self.args, self.__dict__))


class DBOSInitializationError(DBOSException):
    """The configuration is wrong, the database cannot be used, or a call came at the wrong time of the life cycle."""

    code = 3


class DBOSConflictingRegistrationError(DBOSException):
    """Two different functions, classes, or instances of a class were registered under one name."""

    code = 25

    def __init__(self, name: str, message: str | None = None) -> None:
        super().__init__(
            message
            or f"Two functions are registered under the name {name!r}. Names tell recovery what to run, so they must "
            "be unique: give one of them another, with the decorator's `name=`."
        )


class DBOSWorkflowFunctionNotFoundError(DBOSException):
    """A workflow is recorded under a name that no function of this program is registered for."""

    code = 4

    def __init__(self, workflow_id: str, name: str) -> None:
        super().__init__(
            f"Workflow {workflow_id!r} runs the function {name!r}, which is not registered in this process. "
            "Import the module that defines it before DBOS.launch()."
        )


class DBOSNonExistentWorkflowError(DBOSException):
    """No workflow has this id."""

    code = 5

    def __init__(self, workflow_id: str) -> None:
        super().__init__(f"There is no workflow with the id {workflow_id!r}.")
        self.workflow_id = workflow_id


class DBOSConflictingWorkflowError(DBOSException):
    """A workflow with this id exists already, and it runs another function, or on another class or instance."""

    code = 9

    def __init__(self, workflow_id: str, recorded: str, called: str) -> None:
        super().__init__(
            f"The workflow id {workflow_id!r} belongs to {recorded}, so it cannot be used for {called}. "
            "Use another id: an id names one run of one function."
        )
        self.workflow_id = workflow_id


class DBOSWorkflowConflictIDError(DBOSException):
    """A workflow with this id exists already."""

    code = 1

    def __init__(self, workflow_id: str) -> None:
        super().__init__(f"A workflow with the id {workflow_id!r} exists already. Use another id.")
        self.workflow_id = workflow_id


class DBOSUnexpectedStepError(DBOSException):
    """A replayed workflow called another step than it had recorded at this place."""

    code = 11

    def __init__(self, workflow_id: str, step_id: int, expected_name: str, recorded_name: str) -> None:
        super().__init__(
            f"Workflow {workflow_id!r} called {expected_name!r} as its step {step_id}, but when it ran before it "
            f"recorded {recorded_name!r} there. {_why_unexpected(recorded_name)}"
        )
        self.workflow_id = workflow_id
        self.step_id = step_id


class DBOSMaxStepRetriesExceeded(DBOSException):
    """A step that may be retried failed at every attempt.

    Attributes:
        errors: The exception of each attempt, in order.
    """

    code = 7

    def __init__(self, step_name: str, max_retries: int, errors: Sequence[Exception]) -> None:
        super().__init__(f"Step {step_name} has exceeded its maximum of {max_retries} retries")
        self.step_name = step_name
        self.max_retries = max_retries
        self.errors = list(errors)


class DBOSSerializationError(DBOSException):
    """A value cannot be stored: the serializer refused it, or its text breaks a limit of the databases."""

    code = 16


class DBOSPortableError(DBOSException):
    """Stands for a recorded exception that could not be stored, or cannot be rebuilt, as itself.

    Attributes:
        type_name: The qualified name of the original exception's class.
        original_message: The original exception's text.
        original_args: The original exception's arguments, as far as they could be stored.
    """

    code = 17

    def __init__(self, type_name: str, original_message: str, original_args: Sequence[object] = ()) -> None:
        super().__init__(f"{type_name}: {original_message}")
        self.type_name = type_name
        self.original_message = original_message
        self.original_args = tuple(original_args)


class DBOSNotAuthorizedError(DBOSException):
    """The authenticated user has none of the roles that the function requires."""

    code = 8


class DBOSQueueDeduplicatedError(DBOSException):
    """A workflow with this deduplication id is enqueued or running on this queue."""

    code = 12

    def __init__(self, workflow_id: str, queue_name: str, deduplication_id: str) -> None:
        super().__init__(
            f"Workflow {workflow_id!r} was not enqueued: queue {queue_name!r} already holds a workflow with the "
            f"deduplication id {deduplication_id!r}."
        )
        self.workflow_id = workflow_id
        self.queue_name = queue_name
        self.deduplication_id = deduplication_id


class DBOSAwaitedWorkflowCancelledError(DBOSException):
    """The workflow whose result was awaited is cancelled, so it has none."""

    code = 13

    def __init__(self, workflow_id: str) -> None:
        super().__init__(f"Workflow {workflow_id!r} was cancelled, so it has no result.")
        self.workflow_id = workflow_id


class DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded(DBOSException):
    """The workflow whose result was awaited was given up after too many recoveries."""

    code = 14

    def __init__(self, workflow_id: str) -> None:
        super().__init__(
            f"Workflow {workflow_id!r} was interrupted and recovered more often than its max_recovery_attempts "
            "allows, so it was given up and has no result. When its cause is mended, resume it."
        )
        self.workflow_id = workflow_id


class MaxRecoveryAttemptsExceededError(DBOSException):
    """A workflow was interrupted and recovered more often than its ``max_recovery_attempts`` allows."""

    code = 6

    def __init__(self, workflow_id: str, max_recovery_attempts: int) -> None:
        super().__init__(
            f"Workflow {workflow_id!r} was recovered {max_recovery_attempts} times, its limit, and never ended: it "
            "seems to take its process down. It is not recovered again until it is resumed."
        )
        self.workflow_id = workflow_id
        self.max_recovery_attempts = max_recovery_attempts


class DBOSWorkflowCancelledError(BaseException):
    """Raised at the next step of a workflow that was cancelled. Let it pass: the workflow is over."""

    code = 10

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.dbos_error_code = self.code

    def __str__(self) -> str:
        return _numbered(self.dbos_error_code, self.message)


def _why_unexpected(recorded_name: str) -> str:
    patch_name = recorded_name.removeprefix("DBOS.patch-")
    if patch_name != recorded_name:
        return (
            f"The patch {patch_name!r} was removed or moved too early: keep DBOS.patch({patch_name!r}), or "
            f"DBOS.deprecate_patch({patch_name!r}), in its place until all workflows that recorded it have ended."
        )
    return (
        "A workflow must call the same steps in the same order each time: move non-deterministic code into a step, or, "
        "if its code was changed, guard the change by a patch or a new application version. (A patch may be deprecated "
        "only when all workflows that began before it have ended.)"
    )


def _numbered(code: int | None, message: str) -> str:
    return message if code is None else f"DBOS Error {code}: {message}"


def _rebuild(cls: type[DBOSException], args: tuple[object, ...], state: dict[str, object]) -> DBOSException:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error
