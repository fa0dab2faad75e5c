"""Makes Grafana's JSON from our boards, with its SDK. How things look is decided here, once."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from deploy.grafana.model import Board, Panel, Query, Row, Shape

SOURCE = options.DataSourceRef(type_val="prometheus", uid="${datasource}")
HEIGHT: Mapping[Shape, int] = {Shape.NUMBER: 4}
USUAL_HEIGHT = 8
RUNBOOKS = "https://postroad.example/docs/runbooks"
"""Where docs/runbooks is read; the text box `runbooks` of each board changes it."""
COLOURS = {
    "delivered": "green", "ok": "green", "success": "green", "full": "green", "resumed": "blue",
    "deferred": "yellow", "failed": "red", "expired": "dark-red", "unknown": "purple",
    "parked": "dark-purple", "wrong": "red", "throttled": "orange", "blocked": "red",
    "ours": "dark-red", "load": "orange",
}  # fmt: skip
"""Of series by their name, the same on every board."""
VALUES: Mapping[str, tuple[str, str]] = {
    "namespace": ("Namespace", "label_values(postroad_build_info, namespace)"),
    "lane": ("Lane", "label_values(postroad_owned_partitions, lane)"),
    "class": ("Class", "label_values(postroad_queue_seconds_count, class)"),
    "provider": ("Provider", "label_values(postroad_delivery_attempts_total, provider)"),
}
_NOISE = {"placement", "allowCustomValue", "auto", "auto_count", "auto_min", "repeatDirection"}
Made = timeseries.Panel | stat.Panel | bargauge.Panel | table.Panel


def to_json(board: Board, boards: Sequence[Board]) -> str:
    """The text of the board's file; equal boards give equal texts."""
    made = (
        build.Dashboard(board.title)
        .uid(board.uid)
        .description(board.meaning)
        .tags(["postroad"])
        .time("now-3h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .link(_to_other_boards())
        .annotation(_alerts())
    )
    _add_variables(made, board)
    titles = {other.uid: other.title for other in boards}
    numbers = itertools.count(1)
    for row in board.rows:
        _add_row(made, row, titles, numbers)
    text = json.dumps(made.build(), cls=JSONEncoder)
    document = json.loads(text, object_hook=_without_noise)
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _without_noise(values: dict[str, Any]) -> dict[str, Any]:
    """Without defaults of the SDK that Grafana does not need, or that hide the links."""
    return {k: v for k, v in values.items() if k not in _NOISE}


def _to_other_boards() -> build.DashboardLink:
    link = build.DashboardLink("postroad").type(models.DashboardLinkType.DASHBOARDS)
    return link.tags(["postroad"]).keep_time(True).include_vars(True).as_dropdown(False)


def _alerts() -> build.AnnotationQuery:
    expression = 'ALERTS{alertname=~"Postroad.*",alertstate="firing",namespace=~"$namespace"}'
    query = build.AnnotationQuery().name("Alerts").datasource(SOURCE).enable(True)
    return query.icon_color("red").expr(expression).title_format("{{alertname}}").step("60s")


def _add_variables(made: build.Dashboard, board: Board) -> None:
    made.with_variable(build.DatasourceVariable("datasource").label("Source").type("prometheus"))
    for name in ("namespace", *board.variables):
        label, query = VALUES[name]
        made.with_variable(
            build.QueryVariable(name)
            .label(label)
            .datasource(SOURCE)
            .query({"query": query, "refId": name})
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(models.VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            .all_value(".*")
            .current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
        )
    made.with_variable(build.TextBoxVariable("runbooks").label("Runbooks").default_value(RUNBOOKS))


def _add_row(
    made: build.Dashboard, row: Row, titles: Mapping[str, str], numbers: Iterator[int]
) -> None:
    made.with_row(build.Row(row.title).id(next(numbers)))
    for panel in row.panels:
        made.with_panel(_panel(panel, titles).id(next(numbers)))


def _panel(panel: Panel, titles: Mapping[str, str]) -> Made:
    made: Made = _SHAPES[panel.shape](panel)
    made.title(panel.title).description(panel.meaning).datasource(SOURCE).unit(panel.unit)
    made.span(panel.width).height(HEIGHT.get(panel.shape, USUAL_HEIGHT)).min(0)
    if panel.most is not None:
        made.max(panel.most)
    steps = [models.Threshold(value=value, color=colour) for value, colour in panel.steps]
    made.thresholds(build.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
    for query, letter in zip(panel.queries, itertools.count(ord("A")), strict=False):
        made.with_target(_target(query, chr(letter), panel.shape))
    if links := _links(panel, titles):
        made.links(links)
    return made


def _target(query: Query, letter: str, shape: Shape) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expression).ref_id(letter)
    target.legend_format(query.legend or "__auto").datasource(SOURCE)
    if shape is Shape.TABLE:
        return target.instant().format(PromQueryFormat.TABLE)
    return target.instant() if shape is Shape.BARS else target.range()


def _links(panel: Panel, titles: Mapping[str, str]) -> list[Builder[models.DashboardLink]]:
    boards = [
        build.DashboardLink(f"Next: {titles[uid]}").url(
            f"/d/{uid}?${{__url_time_range}}&${{__all_variables}}"
        )
        for uid in panel.leads_to
    ]
    pages = [
        build.DashboardLink(f"Runbook: {name}").url(f"${{runbooks}}/{name}.md").target_blank(True)
        for name in panel.runbooks
    ]
    return [link.type(models.DashboardLinkType.LINK) for link in (*boards, *pages)]


def _lines(panel: Panel) -> timeseries.Panel:
    made = timeseries.Panel().line_width(1.5).span_nulls(False)
    legend = common.VizLegendOptions().show_legend(True)
    legend.display_mode(options.LegendDisplayMode.LIST).placement(options.LegendPlacement.BOTTOM)
    made.legend(legend)
    tooltip = common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI)
    made.tooltip(tooltip.sort(options.SortOrder.DESCENDING))
    if len(panel.steps) > 1:
        style = common.GraphThresholdsStyleConfig().mode(options.GraphThresholdsStyleMode.DASHED)
        made.thresholds_style(style)
    for name, colour in COLOURS.items() if _names_states(panel) else ():
        fixed = {"mode": "fixed", "fixedColor": colour}
        made.override_by_name(name, [models.DynamicConfigValue(id_val="color", value=fixed)])
    return made


def _names_states(panel: Panel) -> bool:
    return any(
        f"{{{{{label}}}}}" in query.legend
        for query in panel.queries
        for label in ("outcome", "reason", "result")
    )


def _stack(panel: Panel) -> timeseries.Panel:
    stacking = common.StackingConfig().mode(options.StackingMode.NORMAL)
    return _lines(panel).stacking(stacking).fill_opacity(40)


def _reduced() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"])


def _number(_panel: Panel) -> stat.Panel:
    made = stat.Panel().graph_mode(options.BigValueGraphMode.AREA).reduce_options(_reduced())
    return made.color_mode(options.BigValueColorMode.BACKGROUND)


def _bars(_panel: Panel) -> bargauge.Panel:
    made = bargauge.Panel().orientation(options.VizOrientation.HORIZONTAL)
    return made.reduce_options(_reduced()).display_mode(options.BarGaugeDisplayMode.BASIC)


def _table(_panel: Panel) -> table.Panel:
    hidden = models.DynamicConfigValue(id_val="custom.hidden", value=True)
    url = "${runbooks}/${__data.fields.alertname}.md"
    link = [{"title": "Runbook", "url": url, "targetBlank": True}]
    made = table.Panel()
    for column in ("Time", "Value", "__name__", "alertstate"):
        made.override_by_name(column, [hidden])
    return made.override_by_name(
        "alertname", [models.DynamicConfigValue(id_val="links", value=link)]
    )


_SHAPES: Mapping[Shape, Callable[[Panel], Made]] = {
    Shape.LINES: _lines,
    Shape.STACK: _stack,
    Shape.NUMBER: _number,
    Shape.BARS: _bars,
    Shape.TABLE: _table,
}
