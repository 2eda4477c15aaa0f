"""What the course's notebooks ask of the package: checks of exercises with hints, networks, the glossary."""

from workbench.course.activations import activations as activations
from workbench.course.checking import check as check
from workbench.course.duelling import duel as duel
from workbench.course.glossary import term as term
from workbench.course.glossary import words as words
from workbench.course.networks import example as example
