# ruff: noqa: INP001 - a script's neighbour, not a package
"""The dashboard of one rollout: where it stands, what is proven, what it costs nobody."""

from __future__ import annotations

from blocks import (
    BAD,
    BASELINE,
    CANDIDATE,
    GOOD,
    LIMIT,
    QUIET,
    WARN,
    Json,
    annotation,
    bar_gauge,
    column,
    dashboard,
    lanes,
    limit_line,
    number_variable,
    query,
    series,
    stat,
    table,
    timeseries,
    variable,
    words,
)

R = 'rollout="$rollout"'
HERE = f'{R},segment="$segment"'
ROLLBACK_LINE = "rolls back"
PROMOTE_LINE = "proven"

PHASE_COLOURS = {
    "pending": QUIET,
    "preflight": "semi-dark-blue",
    "shadowing": "purple",
    "progressing": CANDIDATE,
    "baking": "light-orange",
    "paused": WARN,
    "succeeded": GOOD,
    "rolling_back": "dark-red",
    "rolled_back": BAD,
    "aborted": "dark-red",
    "superseded": QUIET,
}
PHASES = {f"/^{phase}$/": colour for phase, colour in PHASE_COLOURS.items()}
VERDICTS = {"pass": GOOD, "fail": BAD, "inconclusive": WARN, "no_data": QUIET, "error": "purple"}

PRESENT_PHASE = f"max by (phase) (coalmine_rollout_phase{{{R}}}) == 1"
HARM = f'max by (metric) (coalmine_evidence_e_value_log10{{{HERE},side="harm"}})'
NON_INFERIOR = f'max by (metric) (coalmine_evidence_e_value_log10{{{HERE},side="non_inferior"}})'


def estimate(bound: str, by: str = "metric", where: str = HERE) -> str:
    """Return the query for one ``bound`` of the estimates."""
    return f'max by ({by}) (coalmine_evidence_estimate{{{where},bound="{bound}"}})'


def build() -> Json:
    """Return the dashboard."""
    return dashboard(
        "coalmine-rollout",
        "Coalmine / Rollout",
        "One rollout: phase and weight, the evidence for and against the candidate, and what was "
        "decided on it.",
        variables=[
            variable("route", "Route", "label_values(coalmine_rollout_phase, route)"),
            variable(
                "rollout",
                "Rollout",
                'label_values(coalmine_rollout_phase{route="$route"}, rollout)',
            ),
            variable(
                "segment",
                "Segment",
                f"label_values(coalmine_evidence_e_value_log10{{{R}}}, segment)",
                chosen="all",
                description="The category of requests that the curves are about.",
            ),
            number_variable(
                "rollback_budget",
                "Rollback error budget",
                "0.05",
                "error_budget.rollback of the spec: harm is proven at 1 / budget.",
            ),
            number_variable(
                "promote_budget",
                "Promote error budget",
                "0.05",
                "error_budget.promote of the spec: non-inferiority is proven at 1 / budget.",
            ),
        ],
        annotations=[
            annotation(
                "Transitions",
                f"(max by (phase) (coalmine_rollout_phase{{{R}}}) == 1) unless "
                f"(max by (phase) (coalmine_rollout_phase{{{R}}} offset 10s) == 1)",
                "{{phase}}",
                CANDIDATE,
            ),
            annotation(
                "Weight changes",
                f"changes(coalmine_rollout_weight_ratio{{{R}}}[10s]) > 0",
                "weight changed",
                BASELINE,
            ),
        ],
        rows=[
            ("Now", _now()),
            ("The way to 100%", _way()),
            ("Evidence", _evidence()),
            ("What moved", _panel()),
            ("Decisions", _decisions()),
        ],
    )


def _now() -> list[Json]:
    return [
        stat(
            "Phase",
            query(PRESENT_PHASE, "{{phase}}", now=True),
            shows="The phase that the rollout is in.",
            act="paused: read the reason with `coalmine rollout status`, then resume, approve or "
            "abort. rolled_back: `coalmine explain` prints the receipt; fix the candidate, then "
            "`retry`.",
            unit="none",
            width=4,
            names=True,
            colours=PHASES,
            noValue="no rollout",
        ),
        stat(
            "Weight",
            query(f"max(coalmine_rollout_weight_ratio{{{R}}})"),
            shows="The share of eligible traffic that the candidate is given.",
            act="to take it away at once: `coalmine rollout weight NAME 0` or `abort`.",
            unit="percentunit",
            start=CANDIDATE,
            min=0,
            max=1,
        ),
        stat(
            "Step",
            query(f"max(coalmine_rollout_step{{{R}}})"),
            shows="The present step's place in the spec, from 0.",
            act="a step that lasts: see the verdicts below for the metric that is not yet proven.",
            unit="none",
            width=2,
            start=QUIET,
            graph=False,
        ),
        stat(
            "Win rate",
            query(estimate("point", where=f'{HERE},metric="judge_win_rate"')),
            shows="How often the judge prefers the candidate, a tie counting one half.",
            act="below 50%: read lost pairs side by side in the console before the bounds decide.",
            unit="percentunit",
            limits=[(0.45, WARN), (0.5, GOOD)],
            start=BAD,
            decimals=1,
            noValue="not judged yet",
        ),
        stat(
            "Evidence of harm",
            query(f'max(coalmine_evidence_e_value_log10{{{R},metric="guardrails",side="harm"}})'),
            shows="The e-value for harm of all guardrails together, as a power of ten; with an "
            "error budget of 0.05 harm is proven at 1.3.",
            act="yellow: look at the failing pairs of the metric that climbs below. Red: the "
            "rollout goes back by itself.",
            unit="none",
            limits=[(0.65, WARN), (1.301, BAD)],
            decimals=2,
            noValue="none yet",
        ),
        stat(
            "Pairs compared",
            query(f'sum(coalmine_funnel{{{R},stream="mirror",outcome="compared"}})'),
            shows="Mirrored requests whose two answers were compared.",
            act="standing still while there is traffic: see the funnel for where requests end.",
            unit="short",
            width=3,
            start=BASELINE,
        ),
        stat(
            "Time to zero",
            query(f"max(coalmine_rollback_time_to_zero_seconds{{{R}}})"),
            shows="From the decision to roll back until no gateway sent the candidate a request.",
            act="above 1 s: find the replica that applied the split late (dashboard Gateway, "
            "Split revision per replica) and check its link to the store.",
            unit="s",
            width=3,
            limits=[(0.5, WARN), (1, BAD)],
            graph=False,
            noValue="no rollback",
        ),
    ]


def _way() -> list[Json]:
    eligible = 'coalmine_requests_total{route="$route",reason=~"split|fallback|breaker"}'
    candidate = 'coalmine_requests_total{route="$route",variant="candidate",reason="split"}'
    return [
        lanes(
            "Phases",
            query(PRESENT_PHASE, "{{phase}}"),
            shows="When the rollout was in which phase.",
            act="a long paused lane waits for a person; `coalmine rollout status` names the "
            "reason and what can be done.",
            width=12,
            height=8,
            colours=PHASES,
        ),
        timeseries(
            "Weight over time",
            query(f"max(coalmine_rollout_weight_ratio{{{R}}})", "declared"),
            query('min(coalmine_split_weight_ratio{route="$route"})', "applied by every gateway"),
            query(
                f"(sum(rate({candidate}[$__rate_interval])) or vector(0)) "
                f"/ sum(rate({eligible}[$__rate_interval]))",
                "served",
            ),
            shows="The weight that the controller declared, the one that gateways apply, and the "
            "share of eligible requests that the candidate really served.",
            act="applied differs from declared: a gateway does not follow the store. Served is "
            "lower than applied: fallbacks or an open breaker (dashboard Gateway).",
            unit="percentunit",
            width=12,
            height=8,
            steps=True,
            min=0,
            max=1,
            colours={
                "/^declared$/": CANDIDATE,
                "/^applied/": "semi-dark-purple",
                "/^served$/": BASELINE,
            },
        ),
    ]


def _evidence() -> list[Json]:
    judge = f'{HERE},metric="judge_win_rate"'
    band = series("/^high$/", custom__fillBelowTo="low", custom__lineWidth=1)
    return [
        timeseries(
            "Win rate with bounds",
            query(estimate("high", where=judge), "high"),
            query(estimate("point", where=judge), "win rate"),
            query(estimate("low", where=judge), "low"),
            shows="The judge's win rate of the candidate, and bounds that hold at every moment. "
            "The line is one half: neither is better.",
            act="the whole band below one half: expect a rollback, read the lost pairs. A band "
            "that stops narrowing: no pairs are judged (dashboard Shadow and judge).",
            unit="percentunit",
            width=12,
            height=10,
            min=0,
            max=1,
            lines=[(0.5, QUIET)],
            colours={"/^win rate$/": CANDIDATE, "/^(low|high)$/": "light-orange"},
            overrides=[band, series("/^low$/", custom__lineWidth=1, custom__fillOpacity=0)],
            calcs=("lastNotNull",),
        ),
        table(
            "Verdicts",
            query(
                f"max by (metric, segment, verdict) (coalmine_verdict{{{R}}}) == 1",
                now=True,
                table=True,
            ),
            query(
                f"max by (metric, segment) (coalmine_evidence_observations{{{R}}})",
                now=True,
                table=True,
            ),
            *(
                query(estimate(bound, "metric, segment", R), now=True, table=True)
                for bound in ("low", "point", "high")
            ),
            shows="The verdict on each metric and segment, with the number of observations, the "
            "estimate and its bounds (win rate for judge_win_rate, else candidate minus baseline).",
            act="fail: read the failing pairs. inconclusive or no_data on a guardrail holds the "
            "rollout: give it more traffic or time, or a wider margin that you can defend. error: "
            "repair the evaluator.",
            columns=[
                ("metric", "Metric"),
                ("segment", "Segment"),
                ("verdict", "Verdict"),
                ("Value #B", "Observations"),
                ("Value #C", "Low"),
                ("Value #D", "Estimate"),
                ("Value #E", "High"),
            ],
            overrides=[
                column(
                    "Verdict",
                    mappings=words(**VERDICTS),
                    custom__cellOptions={"type": "color-background", "mode": "basic"},
                ),
                *(
                    column(heading, unit="percentunit", decimals=1)
                    for heading in ("Low", "Estimate", "High")
                ),
                column("Observations", decimals=0),
            ],
            width=12,
            height=10,
        ),
        timeseries(
            "Harm by metric",
            query(HARM, "{{metric}}"),
            query("-log10(vector($rollback_budget))", ROLLBACK_LINE),
            shows="The e-value for harm of each metric, as a power of ten: bets against `no worse` "
            "that have turned 1 into 10 stand at 1. The thick curve is all guardrails together; "
            "the line is 1 / error budget.",
            act="a curve that climbs: read that metric's failing pairs now. When the thick one "
            "crosses the line the rollout goes back by itself; `coalmine explain` says on which "
            "pairs.",
            unit="none",
            width=12,
            height=10,
            decimals=2,
            overrides=[
                limit_line(ROLLBACK_LINE),
                series(
                    "/^guardrails$/",
                    color={"mode": "fixed", "fixedColor": QUIET},
                    custom__lineWidth=4,
                ),
            ],
        ),
        timeseries(
            "No harm by metric",
            query(NON_INFERIOR, "{{metric}}"),
            query("-log10(vector($promote_budget))", PROMOTE_LINE),
            shows="The e-value for non-inferiority of each metric, as a power of ten. All "
            "guardrails must be above the line at the same time for the next step.",
            act="the lowest curve is what the rollout waits for: more pairs for that metric, or a "
            "margin that the traffic can prove.",
            unit="none",
            width=12,
            height=10,
            decimals=2,
            overrides=[limit_line(PROMOTE_LINE)],
        ),
        timeseries(
            "Damage by metric",
            query(
                estimate("point", where=f'{HERE},metric!~"judge_win_rate|output_tokens"'),
                "{{metric}}",
            ),
            shows="Failure rate of the candidate minus that of the baseline; above zero the "
            "candidate fails more often.",
            act="a metric that leaves zero upwards: open the failing pairs of that check; the "
            "table above has its bounds.",
            unit="percentunit",
            width=12,
            decimals=2,
            lines=[(0, QUIET)],
        ),
        timeseries(
            "Observations",
            query(f"max by (metric) (coalmine_evidence_observations{{{HERE}}})", "{{metric}}"),
            shows="How many observations each metric's evidence rests on.",
            act="a flat line while others grow: that check does not apply to this traffic; set "
            "`must_have_data: false` for it only if that is expected.",
            unit="short",
            width=12,
            decimals=0,
        ),
    ]


def _panel() -> list[Json]:
    change = "coalmine_panel_change_in_margins"
    value = "max by (metric, segment) (coalmine_panel_value{{{}}})"
    return [
        timeseries(
            "Change from baseline to candidate, in margins",
            query(f'max by (metric) ({change}{{{HERE},bound="point"}})', "{{metric}}"),
            shows="How far length, refusals, citations and other figures moved in the newest "
            "2,000 pairs; 1 and -1 are each figure's margin.",
            act="beyond a line: read what moved it, `coalmine rollout panel NAME --metric METRIC`. "
            "A figure that moves while the win rate rises is what reward hacking looks like.",
            unit="none",
            width=12,
            height=10,
            decimals=1,
            lines=[(1.0, WARN), (-1.0, WARN)],
            calcs=("lastNotNull",),
        ),
        table(
            "Before and after",
            *(
                query(value.format(f'{R},variant="{arm}"'), now=True, table=True)
                for arm in ("baseline", "candidate")
            ),
            *(
                query(
                    f'max by (metric, segment) ({change}{{{R},bound="{bound}"}})',
                    now=True,
                    table=True,
                )
                for bound in ("low", "point", "high")
            ),
            shows="Each figure of both arms (a share of answers, or a mean length), and its change "
            "in margins with an interval of 95%.",
            act="an interval wholly beyond 1 or -1 has moved: read its samples with `coalmine "
            "rollout panel NAME --metric METRIC`. One that holds 0 says nothing yet.",
            columns=[
                ("metric", "Figure"),
                ("segment", "Segment"),
                ("Value #A", "Before"),
                ("Value #B", "After"),
                ("Value #C", "Low"),
                ("Value #D", "Change"),
                ("Value #E", "High"),
            ],
            width=12,
            height=10,
        ),
    ]


def _decisions() -> list[Json]:
    return [
        bar_gauge(
            "Funnel",
            query(
                f'sort_desc(sum by (outcome) (coalmine_funnel{{{R},stream="mirror"}}))',
                "{{outcome}}",
                now=True,
            ),
            shows="Where every eligible request ended: the outcomes add up to eligible.",
            act="much shed: raise gateway.capture_buffer_bytes. Much expired: more workers. "
            "judge_error or budget_exhausted: see the judge. candidate_failed: see its upstream.",
            height=11,
            colours={
                "/^eligible$/": BASELINE,
                "/^compared$/": GOOD,
                "/^pending$/": QUIET,
                "/^(shed|expired|judge_error|budget_exhausted)$/": WARN,
                "/^candidate_failed$/": BAD,
            },
            min=0,
        ),
        stat(
            "Funnel does not add up by",
            query(
                f'sum(coalmine_funnel{{{R},outcome="eligible"}}) '
                f'- sum(coalmine_funnel{{{R},outcome!="eligible"}})'
            ),
            shows="Eligible requests minus all outcomes; counters move in one transaction, so "
            "this is zero.",
            act="anything but 0 is a defect: keep the store as it is and report it.",
            unit="none",
            width=4,
            height=5,
            limits=[(1, BAD)],
            start=GOOD,
            mappings=[
                {
                    "type": "range",
                    "options": {"from": None, "to": -1, "result": {"color": BAD, "index": 0}},
                }
            ],
        ),
        timeseries(
            "Transitions",
            query(
                "sum by (event) (increase(coalmine_transitions_total[$__rate_interval]))",
                "{{event}}",
            ),
            shows="Decisions as they fell, of all rollouts, by the event that caused them.",
            act="rollback, pause or abort that you did not expect: `coalmine explain NAME` prints "
            "the receipt.",
            unit="none",
            width=12,
            height=11,
            bars=True,
            stacked=True,
            decimals=0,
            colours={
                "/^(progress|shadow|bake|succeed|promote)$/": GOOD,
                "/^(rollback|abort|drained)$/": BAD,
                "/^(pause|set_weight)$/": WARN,
            },
            calcs=("sum",),
        ),
        stat(
            "Controllers that lead",
            query("sum(coalmine_controller_leader)"),
            shows="Control processes that hold the lease. Exactly one decides.",
            act="0: nothing can be rolled back by itself; start `coalmine control` or look why "
            "it can't reach the store. Gateways keep the last split.",
            unit="none",
            width=4,
            height=6,
            limits=[(1, GOOD), (2, LIMIT)],
            start=BAD,
        ),
    ]
