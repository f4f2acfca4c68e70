"""Outcomes: numbers of a trained network that measures are judged by; OUTCOMES is the catalogue."""

from sharpbench.training.outcomes.catalogue import OUTCOMES, select_outcomes
from sharpbench.training.outcomes.outcome import JudgedNetwork, Outcome
from sharpbench.training.outcomes.store import OutcomeStore, judge_network

__all__ = ["OUTCOMES", "JudgedNetwork", "Outcome", "OutcomeStore", "judge_network", "select_outcomes"]
