"""Phase 1: batch-RL algorithms, one a file behind one contract, and their training on K frozen batches."""

from bmrl.batch_rl.base import Algorithm as Algorithm
from bmrl.batch_rl.base import Targets as Targets
from bmrl.batch_rl.bcq import BCQ as BCQ
from bmrl.batch_rl.cloning import Cloning as Cloning
from bmrl.batch_rl.sac import SAC as SAC
from bmrl.batch_rl.svg import SVG as SVG
from bmrl.batch_rl.td3_bc import TD3BC as TD3BC
