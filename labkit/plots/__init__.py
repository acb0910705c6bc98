"""Plots: data in, a picture out. Every plot has a finding as its title and can be read without colour."""

from labkit.plots.ceilings import plot_ceilings
from labkit.plots.checkpoint import plot_cadence, plot_kills, plot_stalls
from labkit.plots.fabric import plot_fabric
from labkit.plots.figures import figure_html, figure_text, show_figures
from labkit.plots.input import plot_input_parts, plot_input_rates, plot_waits
from labkit.plots.memory import plot_memory
from labkit.plots.monitors import plot_delays, plot_slowest, plot_sums, plot_trade_off
from labkit.plots.picture import Picture, picture_html, picture_png, show
from labkit.plots.plans import plot_plans
from labkit.plots.roofline import RooflinePoint, plot_roofline
from labkit.plots.samples import plot_samples
from labkit.plots.scaling import plot_efficiency, plot_time_to_train
from labkit.plots.schedule import plot_bubble, plot_schedules
from labkit.plots.serving import plot_slots, plot_throughput
from labkit.plots.spot import plot_gap_closed, plot_ledgers, plot_price_of_progress, plot_spot_job
from labkit.plots.style import axis_scale, new_plot
from labkit.plots.tables import table
from labkit.plots.tensor import plot_step_over_bandwidth
from labkit.plots.timeline import plot_timeline
from labkit.plots.training_profile import plot_gains, plot_training_profile, plot_utilisation

__all__ = [
    "Picture",
    "RooflinePoint",
    "axis_scale",
    "figure_html",
    "figure_text",
    "new_plot",
    "picture_html",
    "picture_png",
    "plot_bubble",
    "plot_cadence",
    "plot_ceilings",
    "plot_delays",
    "plot_efficiency",
    "plot_fabric",
    "plot_gains",
    "plot_gap_closed",
    "plot_input_parts",
    "plot_input_rates",
    "plot_kills",
    "plot_ledgers",
    "plot_memory",
    "plot_plans",
    "plot_price_of_progress",
    "plot_roofline",
    "plot_samples",
    "plot_schedules",
    "plot_slots",
    "plot_slowest",
    "plot_spot_job",
    "plot_stalls",
    "plot_step_over_bandwidth",
    "plot_sums",
    "plot_throughput",
    "plot_time_to_train",
    "plot_timeline",
    "plot_trade_off",
    "plot_training_profile",
    "plot_utilisation",
    "plot_waits",
    "show",
    "show_figures",
    "table",
]
