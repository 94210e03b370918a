# ruff: noqa: INP001 - a script's neighbour, not a package
"""The dashboard of the evaluator: pairs, checks, and whether the judge can be trusted."""

from __future__ import annotations

from blocks import (
    ARMS,
    BAD,
    BASELINE,
    GOOD,
    QUIET,
    WARN,
    Json,
    dashboard,
    query,
    series,
    stat,
    timeseries,
    variable,
)
from dashboard_gateway import QUANTILE_LINES, W, quantiles

R = 'route=~"$route",rollout=~"$rollout"'
JUDGED = 'rollout=~"$rollout"'
FINISHED = {
    "/compared$/": GOOD,
    "/checked$/": "light-green",
    "/candidate_failed$/": BAD,
    "/judge_error$/": "purple",
    "/(expired|budget_exhausted|unjudgeable|withheld)$/": WARN,
}
VERDICTS = {
    "/^win$/": GOOD,
    "/^lean_win$/": "light-green",
    "/^tie$/": QUIET,
    "/^inconsistent$/": "purple",
    "/^lean_loss$/": "light-red",
    "/^loss$/": BAD,
}


def build() -> Json:
    """Return the dashboard."""
    return dashboard(
        "coalmine-shadow-and-judge",
        "Coalmine / Shadow and judge",
        "The evaluator: mirrored pairs, hard checks on both arms, and the judge's own health.",
        variables=[
            variable("route", "Route", "label_values(coalmine_pairs_total, route)", many=True),
            variable(
                "rollout",
                "Rollout",
                'label_values(coalmine_pairs_total{route=~"$route"}, rollout)',
                many=True,
            ),
        ],
        rows=[
            ("Now", _now()),
            ("Pairs", _pairs()),
            ("Checks", _checks()),
            ("Judge", _judge()),
            ("People", _people()),
            ("Judge's health", _health()),
            ("Cost", _cost()),
        ],
    )


def _now() -> list[Json]:
    return [
        stat(
            "Pairs compared",
            query(f'60 * sum(rate(coalmine_pairs_total{{{R},outcome="compared"}}{W}))'),
            shows="Pairs a minute that became evidence.",
            act="0 with a rollout active: see Pairs by outcome for where they end, and the worker.",
            unit="cpm",
            start=BASELINE,
        ),
        stat(
            "Backlog",
            query("max(coalmine_pairs_pending)"),
            shows="Captured pairs that no worker has claimed yet.",
            act="growing: raise worker.concurrency, start another worker, or lower "
            "mirror.percentage.",
            limits=[(500, WARN), (2000, BAD)],
        ),
        stat(
            "Judge calls that failed",
            query("max(coalmine:judge_errors:ratio_rate5m)"),
            shows="Share of judge calls without a valid verdict, over five minutes. Above 5% the "
            "judge decides nothing.",
            act="red: read the errors (`coalmine rollout status`), check the judge's key, quota "
            "and model; rollouts hold until it is back.",
            unit="percentunit",
            limits=[(0.02, WARN), (0.05, BAD)],
            decimals=1,
        ),
        stat(
            "Largest position bias",
            query(f"max(abs(coalmine_judge_position_bias{{{JUDGED}}}))"),
            shows="How much more often the answer shown first wins. Both orders are asked, so it "
            "cancels out, at the price of inconsistent verdicts.",
            act="above 20%: the judge reads carelessly; use a stronger one or a sharper rubric.",
            unit="percentunit",
            limits=[(0.1, WARN), (0.2, BAD)],
            decimals=1,
        ),
        stat(
            "Mirrored answer, p95",
            query(
                "histogram_quantile(0.95, sum by (le) "
                f"(rate(coalmine_mirror_duration_seconds_bucket{{{R}}}{W})))"
            ),
            shows="Time that the candidate takes for a mirrored request.",
            act="near mirror.timeout: the candidate's upstream is overloaded; lower "
            "mirror.max_concurrency.",
            unit="s",
            start=QUIET,
        ),
        stat(
            "Spent on the judge",
            query("sum(increase(coalmine_judge_spend_dollars_total[24h]))"),
            shows="Dollars in the last 24 hours, by the prices in the settings.",
            act="too much: lower mirror.budget.usd_per_day or mirror.percentage; an exhausted "
            "budget holds the rollout, it never promotes.",
            unit="currencyUSD",
            start=QUIET,
            decimals=2,
        ),
    ]


def _pairs() -> list[Json]:
    return [
        timeseries(
            "Pairs by outcome",
            query(
                f"sum by (stream, outcome) (rate(coalmine_pairs_total{{{R}}}{W}))",
                "{{stream}} {{outcome}}",
            ),
            shows="Pairs finished a second, by stream (mirror: candidate, noise: baseline again, "
            "live: answers that users got) and outcome.",
            act="expired: workers are too slow. candidate_failed: its upstream fails. judge_error, "
            "budget_exhausted: see below.",
            unit="cps",
            height=10,
            stacked=True,
            colours=FINISHED,
        ),
        timeseries(
            "Values replaced and captures withheld",
            query(
                f'sum by (rule) (rate(coalmine_redactions_total{{route=~"$route"}}{W}))',
                "{{rule}}",
            ),
            query(
                f'sum by (reason) (rate(coalmine_redaction_withheld_total{{route=~"$route"}}{W}))',
                "withheld: {{reason}}",
            ),
            shows="Personal data and secrets replaced by placeholders, by rule, and captures or "
            "mirrored answers that could not be redacted safely.",
            act="much withheld: read the reason; unreadable and tokens are what clients send, "
            "number is a card as a JSON number, too_slow a rule of your own.",
            unit="cps",
            height=10,
            decimals=2,
            min=0,
            colours={"/^withheld/": WARN},
        ),
        timeseries(
            "Pairs waiting",
            query("max(coalmine_pairs_pending)", "waiting"),
            shows="Captured pairs that no worker has claimed yet.",
            act="a line that only climbs ends in expired pairs and a biased sample: add workers "
            "or lower mirror.percentage.",
            unit="short",
            height=10,
            decimals=0,
            min=0,
            colours={"/.*/": WARN},
        ),
        timeseries(
            "Mirror latency",
            *quantiles("coalmine_mirror_duration_seconds", where=R, by="rollout"),
            shows="Time that the candidate takes for a mirrored request; a timeout counts with "
            "the limit.",
            act="rising with concurrency: the candidate's queue grows; lower "
            "mirror.max_concurrency, or give it the baseline's capacity.",
            unit="s",
            height=10,
            overrides=QUANTILE_LINES,
        ),
    ]


def _checks() -> list[Json]:
    failed = 'coalmine_checks_total{route=~"$route",result="fail"}'
    applied = 'coalmine_checks_total{route=~"$route",result=~"pass|fail"}'

    def share(arm: str) -> Json:
        chosen = f'variant="{arm}",'
        by = "sum by (check)"
        failures = failed.replace("{", "{" + chosen)
        total = f"{by} (rate({applied.replace('{', '{' + chosen)}{W}))"
        return query(
            f"({by} (rate({failures}{W})) or 0 * {total}) / {total}",
            "{{check}}",
        )

    return [
        timeseries(
            f"Checks failed by the {arm}",
            share(arm),
            shows=f"Share of the {arm}'s answers that fail each check, of those it applies to. "
            "Both graphs have the same scale of colours.",
            act=act,
            unit="percentunit",
            width=12,
            min=0,
            decimals=2,
        )
        for arm, act in (
            (
                "baseline",
                (
                    "this is the yardstick: a check that the baseline fails often measures the "
                    "contract, not the candidate; correct the contract."
                ),
            ),
            (
                "candidate",
                (
                    "above the baseline's line: read the failing pairs; the rollout's evidence of "
                    "harm grows with each."
                ),
            ),
        )
    ] + [
        timeseries(
            "Check results",
            query(
                'sum by (variant, result) (rate(coalmine_checks_total{route=~"$route"}' + W + "))",
                "{{variant}} {{result}}",
            ),
            shows="Results a second over all checks: pass, fail, not applicable, error.",
            act="error: a check itself breaks, see the worker's log; such results count for "
            "neither arm.",
            unit="cps",
            width=24,
            height=7,
            colours=ARMS,
            overrides=[
                series("/fail$/", custom__lineWidth=3),
                series("/error$/", color={"mode": "fixed", "fixedColor": "purple"}),
            ],
        ),
        timeseries(
            "Reported apart by the checks",
            query(
                "sum by (variant, check, flag) "
                '(rate(coalmine_check_flags_total{route=~"$route"}' + W + "))",
                "{{variant}} {{check}} {{flag}}",
            ),
            shows="Facts a second that decide nothing: JSON that parses only without its code "
            "fence, partial refusals, unwanted tool calls, answers 1.25 times as long.",
            act="a flag that only the candidate has: read pairs with it; an after_fences flag "
            "often goes away with one sentence in the prompt.",
            unit="cps",
            width=12,
            height=8,
        ),
        timeseries(
            "Refusals decided by a model",
            query(
                "sum by (decider, result) (rate(coalmine_refusal_decisions_total" + W + "))",
                "{{decider}} {{result}}",
            ),
            shows="Answers a second of which the rules were not sure, by who was asked and what "
            "came of it. Empty with refusal.decider: rules.",
            act="failed: see the worker's log; the rules' reading then stands. budget_exhausted: "
            "these questions share mirror.budget with the judge.",
            unit="cps",
            width=12,
            height=8,
        ),
    ]


def _judge() -> list[Json]:
    verdicts = f"coalmine_judge_verdicts_total{{{JUDGED}"
    return [
        timeseries(
            "Verdicts",
            query(
                f"sum by (verdict) (rate(coalmine_judge_verdicts_total{{{JUDGED}}}{W}))",
                "{{verdict}}",
            ),
            shows="Verdicts a second from the candidate's point of view, both orders combined.",
            act="inconsistent above 40%: the judge follows the order, not the answers; it is "
            "quarantined, change judge or rubric.",
            unit="cps",
            stacked=True,
            colours=VERDICTS,
        ),
        timeseries(
            "Calls by result",
            query("sum by (result) (rate(coalmine_judge_calls_total" + W + "))", "{{result}}"),
            shows="Calls of the judge a second, by how they ended.",
            act="timeouts or transport errors: the judge's endpoint. Unparsable answers: the model "
            "does not keep to the schema; use one that supports structured output.",
            unit="cps",
            stacked=True,
        ),
        timeseries(
            "Calls that failed",
            query("coalmine:judge_errors:ratio_rate5m", "failed"),
            shows="Share of judge calls without a valid verdict, over five minutes.",
            act="above the line, 5%, evidence from the judge counts for nothing: rollouts hold, "
            "then pause. An error is never a tie or a loss.",
            unit="percentunit",
            lines=[(0.05, BAD)],
            min=0,
            colours={"/.*/": "purple"},
        ),
        timeseries(
            "Position bias",
            query(f"max by (rollout) (coalmine_judge_position_bias{{{JUDGED}}})", "{{rollout}}"),
            shows="Share of verdicts for the answer shown first minus those for the second.",
            act="far from zero: the judge costs pairs by contradicting itself; a stronger judge "
            "decides sooner.",
            unit="percentunit",
            lines=[(-0.2, BAD), (0.2, BAD)],
        ),
        timeseries(
            "Judge latency",
            *quantiles("coalmine_judge_call_duration_seconds", where="", by=""),
            shows="Time of one call of the judge.",
            act="near judge.timeout: calls will fail; lower judge.max_concurrency or ask for more "
            "quota.",
            unit="s",
            colours={"/^p/": "purple"},
            overrides=QUANTILE_LINES,
        ),
        timeseries(
            "Inconsistent verdicts",
            query(
                f'(sum by (rollout) (rate({verdicts},verdict="inconsistent"}}{W})) '
                f"or 0 * sum by (rollout) (rate({verdicts}}}{W}))) "
                f"/ sum by (rollout) (rate({verdicts}}}{W}))",
                "{{rollout}}",
            ),
            shows="Share of verdicts that turn when the two answers change places; they count as "
            "one half and are queued for people.",
            act="above the line, 40%, the judge is not trusted and the rollout holds: change the "
            "judge, or say in the rubric what decides.",
            unit="percentunit",
            min=0,
            lines=[(0.4, BAD)],
        ),
        timeseries(
            "Who was asked, and why",
            query(
                f"sum by (stage, asked) (rate(coalmine_judge_stages_total{{{JUDGED}}}{W}))",
                "{{stage}}: {{asked}}",
            ),
            shows="Pairs a second by stage of the judge, and the reason for asking it. With one "
            "judge everything is final: always.",
            act="final near first: the cheap stage decides little; widen its tie_band less, or "
            "leave it out.",
            unit="cps",
            stacked=True,
        ),
        timeseries(
            "Mean scores",
            query(
                f"sum by (variant) (rate(coalmine_judge_score_sum{{{JUDGED}}}{W})) "
                f"/ sum by (variant) (rate(coalmine_judge_score_count{{{JUDGED}}}{W}))",
                "{{variant}}",
            ),
            shows="Points of 1 to 10 that the judge gives each arm's answers by themselves.",
            act="a drift of both arms: traffic or judge has changed. Nothing is decided by it.",
            unit="short",
        ),
    ]


def _people() -> list[Json]:
    return [
        timeseries(
            "Review queue",
            query(f"sum by (state) (coalmine_review_items{{{JUDGED}}})", "{{state}}"),
            shows="Pairs drawn for people: those that wait, those that are settled, and those "
            "withdrawn because the rollout was over.",
            act="open grows and done does not: nobody reviews. `coalmine review start NAME` does, "
            "and a rollout that asks for human labels waits for it.",
            min=0,
            colours={"/^open$/": WARN, "/^done$/": GOOD, "/^withdrawn$/": QUIET},
        ),
        timeseries(
            "Labels by people",
            query(f"sum by (label) (coalmine_review_labels{{{JUDGED}}})", "{{label}}"),
            shows="Which arm people found better, blind, or neither. They are drawn more often "
            "where judges disagree, so shares are not the win rate.",
            act="far more for the baseline than the judge's verdicts: the judge is wrong about "
            "something; see `coalmine review agreement NAME`.",
            min=0,
            stacked=True,
            colours={**ARMS, "/^neither/": QUIET},
        ),
        timeseries(
            "Win rate by people",
            query(f"max by (bound) (coalmine_review_win_rate{{{JUDGED}}})", "{{bound}}"),
            shows="Win rate by people's labels, corrected with the judge's scores, with bounds "
            "over all looks.",
            act="low stays under one half less the margin: more labels are needed, or the "
            "candidate is worse; `coalmine review status NAME` says which.",
            unit="percentunit",
            lines=[(0.5, QUIET)],
            min=0,
            max=1,
        ),
    ]


def _health() -> list[Json]:
    return [
        timeseries(
            "Judge quarantined",
            query(f"max by (rollout) (coalmine_judge_quarantined{{{R}}})", "{{rollout}}"),
            shows="1 while the judge has failed its control pairs: what it says does not count, "
            "and the rollout holds or pauses.",
            act="at 1: `coalmine judge health` says which controls failed; change the judge or its "
            "rubric, and resume when it passes again.",
            unit="none",
            decimals=0,
            min=0,
            lines=[(1, BAD)],
        ),
        timeseries(
            "Control pairs failed",
            query(
                "sum by (kind) (increase(coalmine_judge_controls_total"
                f'{{{JUDGED},kind!="anchor",result="fail"}}{W}))',
                "{{kind}}",
            ),
            shows="Pairs with a known outcome that the judge got wrong, by kind.",
            act="one now and then is noise, and is asked again; a kind that goes on failing "
            "quarantines the judge.",
            unit="short",
            stacked=True,
            min=0,
        ),
        timeseries(
            "Verdicts on trial",
            query(
                f"max by (rollout) (coalmine_judge_unconfirmed_verdicts{{{JUDGED}}})", "{{rollout}}"
            ),
            shows="Verdicts since the judge last passed; they count against a candidate at once, "
            "and for it only from the next pass on.",
            act="only climbing: no worker examines the judge; see its log, and the judge's budget.",
            unit="short",
            decimals=0,
            min=0,
        ),
        timeseries(
            "Length bias",
            query(
                "max by (rollout, segment) "
                f'(coalmine_judge_bias{{{JUDGED},bias="length",bound="point"}})',
                "{{rollout}} {{segment}}",
            ),
            shows="Rank correlation of the verdict with how much longer the candidate's answer is.",
            act="far above zero: read wins of long answers; a rubric that names concision, or a "
            "better judge, if length is all that they have.",
            unit="none",
            lines=[(-0.5, WARN), (0.5, WARN)],
        ),
        timeseries(
            "Anchor agreement",
            query(f"min by (rollout) (coalmine_judge_anchor_agreement{{{JUDGED}}})", "{{rollout}}"),
            shows="Share of the frozen anchors on which the judge says what it said first.",
            act="falling: the judge's provider has changed it; pin a version, and don't compare "
            "evidence from before and after.",
            unit="percentunit",
            min=0,
        ),
    ]


def _cost() -> list[Json]:
    return [
        timeseries(
            "Spend on the judge",
            query("3600 * sum(rate(coalmine_judge_spend_dollars_total" + W + "))", "per hour"),
            shows="Dollars an hour at the present pace, by the prices in the settings.",
            act="above what mirror.budget allows for the day, the rollout will hold: lower "
            "mirror.percentage or raise the budget. Always 0: the prices in `judge` are not set.",
            unit="currencyUSD",
            width=12,
            min=0,
            colours={"/.*/": "dark-green"},
        ),
        timeseries(
            "Dollars per thousand pairs",
            query(
                "1000 * sum(increase(coalmine_judge_spend_dollars_total[1h])) "
                '/ sum(increase(coalmine_pairs_total{outcome="compared"}[1h]))',
                "per 1000 pairs",
            ),
            shows="What a thousand compared pairs cost, over the last hour.",
            act="rising: longer prompts, or fewer pairs decided by checks and identity before the "
            "judge is asked.",
            unit="currencyUSD",
            width=12,
            min=0,
            colours={"/.*/": "dark-green"},
        ),
    ]
