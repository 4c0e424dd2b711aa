"""MLflow: a run on the server, in the database or in the folder that MLFLOW_TRACKING_URI names."""

import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from ptft.config.yaml_text import one_line
from ptft.tracking.base import Ending, StepNumbers, TrackedRun, read_note, write_note

if TYPE_CHECKING:
    from mlflow.entities import Run

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # it would tell its makers of every run
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # stdout carries our result alone
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds; with its own 120 and 7 tries a dead server is noticed after minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}
_STATES = {"done": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
# What every server takes: of a parameter's value in characters; of parameters or tags, of metrics in one request.
_LONGEST, _MOST, _MOST_METRICS = 500, 100, 1000

T = TypeVar("T")


def without_password(uri: str) -> str:
    """The URI without user and password, else as it is: urlunsplit would take slashes from `sqlite:////a/b.db`."""
    user, at, _ = urlsplit(uri).netloc.rpartition("@")
    return uri.replace(user + at, "", 1)


class Mlflow:
    """Parameters, metrics by step, tags. Nothing is uploaded: the checkpoint is named by a tag.

    The experiment is MLFLOW_EXPERIMENT_NAME, else `ptft`. What the environment says of MLflow wins over ptft's own
    settings of it (no telemetry, short timeouts).

    Args:
        run: what to show.
    """

    def __init__(self, run: TrackedRun) -> None:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        self._run = run
        self._client = MlflowClient()
        self._run_id = ""
        self._step = 0

    @property
    def place(self) -> str:
        """`run ID at URI`; the URI without user and password."""
        return f"run {self._run_id} at {without_password(self._client.tracking_uri)}"

    def begin(self) -> dict[str, int]:
        """Creates the run, or goes on with that of the run folder; the last step that it has of each metric.

        Raises:
            Exception: any of MLflow's.
        """
        found = self._find()
        if found is None:
            found = self._client.create_run(self._experiment(), run_name=str(self._run.folder.path))
        self._run_id = found.info.run_id
        write_note(self._run.folder, "mlflow", {"run_id": self._run_id})
        self._describe(found)
        history = {key: self._client.get_metric_history(self._run_id, key) for key in found.data.metrics}
        sent = {key: max(metric.step for metric in metrics) for key, metrics in history.items()}
        self._step = max(sent.values(), default=0)
        return sent

    def _find(self) -> "Run | None":
        """The run of an earlier session; None where this server has none, or it was deleted there."""
        from mlflow.exceptions import MlflowException

        run_id = read_note(self._run.folder, "mlflow").get("run_id")
        if not run_id:
            return None
        try:
            found = self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        if found.info.lifecycle_stage != "active":
            return None
        self._client.update_run(run_id, status="RUNNING")
        return found

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "ptft"
        known = self._client.get_experiment_by_name(name)
        if known is None:
            try:
                return str(self._client.create_experiment(name))
            except MlflowException:  # a run beside this one was faster
                known = self._client.get_experiment_by_name(name)
                if known is None:
                    raise
        return str(known.experiment_id)

    def _describe(self, found: "Run") -> None:
        """The config as parameters; those cannot change in MLflow, so what has changed since becomes a tag."""
        from mlflow.entities import Param

        now = {key: one_line(value)[:_LONGEST] for key, value in self._run.config.items()}
        before = found.data.params
        new = [Param(key, value) for key, value in now.items() if key not in before]
        for part in _portions(new):
            self._client.log_batch(self._run_id, params=part)
        changed = {key: value for key, value in now.items() if before.get(key, value) != value}
        self._tag({**self._run.facts, **changed, "state": "running"})

    def log(self, points: Sequence[StepNumbers]) -> None:
        """Sends numbers of some steps, as many in a request as servers take; Exception as `begin`."""
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        self._step = max(self._step, *(step for step, _ in points))
        metrics = [Metric(key, value, now, step) for step, numbers in points for key, value in numbers.items()]
        for part in _portions(metrics, _MOST_METRICS):
            self._client.log_batch(self._run_id, metrics=part)

    def end(self, ending: Ending) -> None:
        """Sends the final scores and how the run ended; Exception as `begin`."""
        if ending.scores:
            self.log([(self._step, ending.scores)])
        facts = {"state": ending.state, "exit_code": str(ending.exit_code), "reason": ending.reason}
        self._tag({**facts, **ending.facts})
        self._client.set_terminated(self._run_id, status=_STATES[ending.state])

    def _tag(self, facts: Mapping[str, Any]) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(f"ptft.{key}", str(value)[:_LONGEST]) for key, value in facts.items()]
        for part in _portions(tags):
            self._client.log_batch(self._run_id, tags=part)


def _portions(items: Sequence[T], size: int = _MOST) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
