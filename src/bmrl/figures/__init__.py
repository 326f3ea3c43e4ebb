"""Figures of a run: PNG files, animations and the table of results. NumPy, matplotlib and Pillow only.

    returns.py        plot_returns: a dot an episode and the mean of every method, a panel an MDP
    trajectories.py   plot_trajectories: the paths of point-goal, a panel a method
    velocities.py     plot_velocities: a robot's velocity over time, a panel an MDP
    identities.py     plot_identities: the inferred identities over the steps of the episodes
    curves.py         plot_curves: the training curves in metrics.csv, a file a stage
    animation.py      animate: a GIF of robots or points, a panel an episode
    table.py          results_table: the rows of results.json as a table for the terminal
    style.py          what they share: looks, colours, names, which episodes count

A figure depends on its input alone: no global state of matplotlib, no date, no randomness. Episodes whose
simulation became unstable are left out everywhere; where none is left, the picture says so.
"""
