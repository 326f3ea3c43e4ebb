"""Networks: multi-layer perceptrons, input statistics, and the set encoder of MDP identities."""

from bmrl.networks.mlp import MLP as MLP
from bmrl.networks.mlp import ConditionedMLP as ConditionedMLP
from bmrl.networks.normaliser import Normaliser as Normaliser
from bmrl.networks.normaliser import normaliser_of as normaliser_of
