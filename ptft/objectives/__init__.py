"""What training minimises; one file each."""

from ptft.objectives.supervised import Supervised

Objective = Supervised
