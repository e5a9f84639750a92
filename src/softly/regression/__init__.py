"""Kernel regression (Nadaraya-Watson): averages of what was seen, by the softmax of scores between queries and data."""

from softly.regression.averages import kernel_regression as kernel_regression
from softly.regression.gaussian import Averages as Averages
from softly.regression.gaussian import gaussian_averages as gaussian_averages
from softly.regression.problem import check_bandwidth as check_bandwidth
from softly.regression.problem import prepare as prepare
