"""Thermostats: tiMe in ten houses that it has never seen, beside what runs houses today and what could at best."""

from bmrl.reproduce.study import Study
from bmrl.reproduce.thermostat import page, units

STUDY = Study(units.units, page.page)
