"""What a task asks of each image: one class, several, or numbers. Its labels, loss, scores and answers follow."""

from typing import Annotated

from pydantic import Field

from ptft.tasks.base import Answers, TaskConfig
from ptft.tasks.multi_label import MultiLabel
from ptft.tasks.regression import Regression
from ptft.tasks.single_label import SingleLabel

Tasks = Annotated[SingleLabel | MultiLabel | Regression, Field(discriminator="name")]
"""The registry of kinds of tasks."""

__all__ = ["Answers", "MultiLabel", "Regression", "SingleLabel", "TaskConfig", "Tasks"]
