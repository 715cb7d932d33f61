from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class QuestionKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    QUESTION_KIND_UNSPECIFIED: _ClassVar[QuestionKind]
    QUESTION_KIND_CONFIRM: _ClassVar[QuestionKind]
    QUESTION_KIND_CHOICE: _ClassVar[QuestionKind]
    QUESTION_KIND_SECRET: _ClassVar[QuestionKind]
QUESTION_KIND_UNSPECIFIED: QuestionKind
QUESTION_KIND_CONFIRM: QuestionKind
QUESTION_KIND_CHOICE: QuestionKind
QUESTION_KIND_SECRET: QuestionKind

class ClientMessage(_message.Message):
    __slots__ = ("request", "answer", "cancel")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    request: Request
    answer: Answer
    cancel: Cancel
    def __init__(self, request: _Optional[_Union[Request, _Mapping]] = ..., answer: _Optional[_Union[Answer, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ...) -> None: ...

class Request(_message.Message):
    __slots__ = ("operation", "options", "folder", "interactive", "assume_yes", "quiet", "debug", "secrets")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    class SecretsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    FOLDER_FIELD_NUMBER: _ClassVar[int]
    INTERACTIVE_FIELD_NUMBER: _ClassVar[int]
    ASSUME_YES_FIELD_NUMBER: _ClassVar[int]
    QUIET_FIELD_NUMBER: _ClassVar[int]
    DEBUG_FIELD_NUMBER: _ClassVar[int]
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    operation: str
    options: _containers.ScalarMap[str, bytes]
    folder: bytes
    interactive: bool
    assume_yes: bool
    quiet: bool
    debug: bool
    secrets: _containers.ScalarMap[str, bytes]
    def __init__(self, operation: _Optional[str] = ..., options: _Optional[_Mapping[str, bytes]] = ..., folder: _Optional[bytes] = ..., interactive: _Optional[bool] = ..., assume_yes: _Optional[bool] = ..., quiet: _Optional[bool] = ..., debug: _Optional[bool] = ..., secrets: _Optional[_Mapping[str, bytes]] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("question_id", "text")
    QUESTION_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    question_id: str
    text: str
    def __init__(self, question_id: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ServerMessage(_message.Message):
    __slots__ = ("accepted", "task_started", "task_finished", "task_skipped", "task_failed", "progress", "log", "question", "result")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    TASK_STARTED_FIELD_NUMBER: _ClassVar[int]
    TASK_FINISHED_FIELD_NUMBER: _ClassVar[int]
    TASK_SKIPPED_FIELD_NUMBER: _ClassVar[int]
    TASK_FAILED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    accepted: Accepted
    task_started: TaskStarted
    task_finished: TaskFinished
    task_skipped: TaskSkipped
    task_failed: TaskFailed
    progress: Progress
    log: Log
    question: Question
    result: Result
    def __init__(self, accepted: _Optional[_Union[Accepted, _Mapping]] = ..., task_started: _Optional[_Union[TaskStarted, _Mapping]] = ..., task_finished: _Optional[_Union[TaskFinished, _Mapping]] = ..., task_skipped: _Optional[_Union[TaskSkipped, _Mapping]] = ..., task_failed: _Optional[_Union[TaskFailed, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., log: _Optional[_Union[Log, _Mapping]] = ..., question: _Optional[_Union[Question, _Mapping]] = ..., result: _Optional[_Union[Result, _Mapping]] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("worker_pid",)
    WORKER_PID_FIELD_NUMBER: _ClassVar[int]
    worker_pid: int
    def __init__(self, worker_pid: _Optional[int] = ...) -> None: ...

class TaskStarted(_message.Message):
    __slots__ = ("task", "title")
    TASK_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    task: str
    title: str
    def __init__(self, task: _Optional[str] = ..., title: _Optional[str] = ...) -> None: ...

class TaskFinished(_message.Message):
    __slots__ = ("task", "seconds")
    TASK_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    task: str
    seconds: float
    def __init__(self, task: _Optional[str] = ..., seconds: _Optional[float] = ...) -> None: ...

class TaskSkipped(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: str
    def __init__(self, task: _Optional[str] = ...) -> None: ...

class TaskFailed(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: str
    def __init__(self, task: _Optional[str] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("task", "done", "total", "unit")
    TASK_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    task: str
    done: int
    total: int
    unit: str
    def __init__(self, task: _Optional[str] = ..., done: _Optional[int] = ..., total: _Optional[int] = ..., unit: _Optional[str] = ...) -> None: ...

class Log(_message.Message):
    __slots__ = ("level", "text")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    level: str
    text: str
    def __init__(self, level: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class Question(_message.Message):
    __slots__ = ("id", "kind", "text", "default", "option", "choices")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_FIELD_NUMBER: _ClassVar[int]
    OPTION_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    id: str
    kind: QuestionKind
    text: str
    default: str
    option: str
    choices: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[_Union[QuestionKind, str]] = ..., text: _Optional[str] = ..., default: _Optional[str] = ..., option: _Optional[str] = ..., choices: _Optional[_Iterable[str]] = ...) -> None: ...

class Result(_message.Message):
    __slots__ = ("exit_code", "error", "json", "tasks_run", "tasks_up_to_date")
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    TASKS_RUN_FIELD_NUMBER: _ClassVar[int]
    TASKS_UP_TO_DATE_FIELD_NUMBER: _ClassVar[int]
    exit_code: int
    error: Error
    json: str
    tasks_run: int
    tasks_up_to_date: int
    def __init__(self, exit_code: _Optional[int] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., json: _Optional[str] = ..., tasks_run: _Optional[int] = ..., tasks_up_to_date: _Optional[int] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("what", "state", "hint", "traceback")
    WHAT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    TRACEBACK_FIELD_NUMBER: _ClassVar[int]
    what: str
    state: str
    hint: str
    traceback: str
    def __init__(self, what: _Optional[str] = ..., state: _Optional[str] = ..., hint: _Optional[str] = ..., traceback: _Optional[str] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("version", "build", "pid", "home", "started", "running")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BUILD_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    HOME_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    version: str
    build: str
    pid: int
    home: bytes
    started: float
    running: _containers.RepeatedCompositeFieldContainer[RunningOperation]
    def __init__(self, version: _Optional[str] = ..., build: _Optional[str] = ..., pid: _Optional[int] = ..., home: _Optional[bytes] = ..., started: _Optional[float] = ..., running: _Optional[_Iterable[_Union[RunningOperation, _Mapping]]] = ...) -> None: ...

class RunningOperation(_message.Message):
    __slots__ = ("operation", "worker_pid", "started")
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    WORKER_PID_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    operation: str
    worker_pid: int
    started: float
    def __init__(self, operation: _Optional[str] = ..., worker_pid: _Optional[int] = ..., started: _Optional[float] = ...) -> None: ...

class StopRequest(_message.Message):
    __slots__ = ("force",)
    FORCE_FIELD_NUMBER: _ClassVar[int]
    force: bool
    def __init__(self, force: _Optional[bool] = ...) -> None: ...

class StopResponse(_message.Message):
    __slots__ = ("stopping", "running")
    STOPPING_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    stopping: bool
    running: _containers.RepeatedCompositeFieldContainer[RunningOperation]
    def __init__(self, stopping: _Optional[bool] = ..., running: _Optional[_Iterable[_Union[RunningOperation, _Mapping]]] = ...) -> None: ...
