"""Where batches come from: SAC in every train MDP, as in the paper, or a family's ordinary controllers."""

from bmrl.collect.controllers import ControllerLogs as ControllerLogs
from bmrl.collect.controllers import log_controllers as log_controllers
from bmrl.collect.log import provenance as provenance
from bmrl.collect.sac import CollectConfig as CollectConfig
from bmrl.collect.sac import collect as collect
