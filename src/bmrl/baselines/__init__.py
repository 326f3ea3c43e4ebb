"""What tiMe is compared with, where a learner of one batch (`bmrl.batch_rl`) is not enough."""
