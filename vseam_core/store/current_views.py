"""Views of what is current, and of what one asks first: one row per finding, from the latest complete run.

Every table `stored_X` has a view `X` that leaves out what was superseded: rows of superseded units, and aggregates that rest on one.
The views called `latest_…` leave out, beside that, what an older or incomplete run found about the same.
"""

from __future__ import annotations

from sqlalchemy import Table

from vseam_core.store import schema

OF_UNITS: tuple[Table, ...] = (
    schema.skips,
    schema.baselines,
    schema.answers,
    schema.trace_effects,
    schema.head_effects,
    schema.ablations,
    schema.modulations,
)
"""What hangs on a unit."""

AGGREGATES: tuple[Table, ...] = (
    schema.head_scores,
    schema.screenings,
    schema.trace_scores,
    schema.evaluations,
    schema.shared_head_tests,
    *schema.TEST_TABLES,
    *schema.METHOD_TABLES,
)
"""What rests on a set of units."""

STALE_SAMPLE_SETS = """
CREATE VIEW stale_sample_sets AS
SELECT DISTINCT sample_sets.hash
FROM units
JOIN sample_set_units ON sample_set_units.unit_id = units.id
JOIN sample_sets ON sample_sets.id = sample_set_units.sample_set_id
WHERE units.superseded
"""


def view_name(table: Table) -> str:
    """What the view of a table `stored_X` is called: X."""
    return table.name.removeprefix("stored_")


def _of_units(table: Table) -> str:
    columns = ", ".join(f"{table.name}.{_quoted(column.name)}" for column in table.c)
    return (
        f"CREATE VIEW {view_name(table)} AS\nSELECT {columns}\nFROM {table.name}\n"
        "JOIN units ON units.id = unit_id\nWHERE NOT units.superseded"
    )


def _aggregate(table: Table) -> str:
    columns = ", ".join(_quoted(column.name) for column in table.c)
    return (
        f"CREATE VIEW {view_name(table)} AS\nSELECT {columns}\nFROM {table.name}\n"
        "WHERE sample_set_hash NOT IN (SELECT hash FROM stale_sample_sets)"
    )


def _quoted(name: str) -> str:
    return f'"{name}"'


# The answers of a study, of traces and of scans are about the same question where sample and image are: an image asked by itself and
# the clean image of a pair are one.
LATEST_BASELINES = """
CREATE VIEW latest_baselines AS
SELECT run_id, method, model, dataset, level, category, pool, split, identifier, image_id, question, answer, pair_role,
    predicted, answer_prob, prob_sum, logit, logit_diff, sequence_logprob, correct_published, correct_strict, score
FROM (
    SELECT runs.id AS run_id, runs.method, runs.model, samples.dataset, samples.level, samples.category, samples.pool, samples.split,
        samples.identifier, samples.image_id, samples.question, samples.answer, baselines.pair_role,
        baselines.predicted, baselines.answer_prob, baselines.prob_sum, baselines.logit, baselines.logit_diff,
        baselines.sequence_logprob, baselines.correct_published, baselines.correct_strict, baselines.score,
        ROW_NUMBER() OVER (
            PARTITION BY runs.model, baselines.sample_id,
                CASE WHEN baselines.pair_role = '' THEN 'clean' ELSE baselines.pair_role END
            ORDER BY runs.finished DESC, runs.id DESC, baselines.id DESC
        ) AS age
    FROM baselines
    JOIN units ON units.id = baselines.unit_id
    JOIN runs ON runs.id = units.run_id AND runs.finished IS NOT NULL
    JOIN samples ON samples.id = baselines.sample_id
) AS ordered
WHERE age = 1
"""

LATEST_ANSWERS = """
CREATE VIEW latest_answers AS
WITH changes AS (
    SELECT run_id, MAX(change) AS change FROM stored_evaluations GROUP BY run_id
)
SELECT run_id, model, change, dataset, level, category, pool, split, identifier, image_id, question, answer, pair_role,
    predicted, score, correct, first_token_correct, gold_probability, competitor_probability, logit_diff, note
FROM (
    SELECT runs.id AS run_id, runs.model, changes.change, samples.dataset, samples.level, samples.category, samples.pool,
        samples.split, samples.identifier, samples.image_id, samples.question, samples.answer, answers.pair_role,
        answers.predicted, answers.score, answers.correct, answers.first_token_correct, answers.gold_probability,
        answers.competitor_probability, answers.logit_diff, answers.note,
        ROW_NUMBER() OVER (
            PARTITION BY runs.model, changes.change, answers.sample_id,
                CASE WHEN answers.pair_role = '' THEN 'clean' ELSE answers.pair_role END
            ORDER BY runs.finished DESC, runs.id DESC, answers.id DESC
        ) AS age
    FROM answers
    JOIN units ON units.id = answers.unit_id
    JOIN runs ON runs.id = units.run_id AND runs.finished IS NOT NULL
    JOIN changes ON changes.run_id = runs.id
    JOIN samples ON samples.id = answers.sample_id
) AS ordered
WHERE age = 1
"""

# Of one run's figures those over the most samples; of two over as many, the later.
LATEST_EVALUATIONS = """
CREATE VIEW latest_evaluations AS
WITH latest AS (
    SELECT id AS run_id FROM (
        SELECT runs.id, ROW_NUMBER() OVER (
            PARTITION BY of_run.model, of_run.change, of_run.dataset, of_run.pool, of_run.split, of_run.compared_with
            ORDER BY runs.finished DESC, runs.id DESC
        ) AS age
        FROM (SELECT DISTINCT run_id, model, change, dataset, pool, split, compared_with FROM evaluations) AS of_run
        JOIN runs ON runs.id = of_run.run_id AND runs.finished IS NOT NULL
    ) AS ordered
    WHERE age = 1
)
SELECT id, run_id, model, change, dataset, level, pool, split, subset, metric, value, standard_error, low, high, p_value,
    n, clusters, "interval", reason, compared_with
FROM (
    SELECT evaluations.*, ROW_NUMBER() OVER (
        PARTITION BY run_id, subset, metric, compared_with ORDER BY n DESC, id DESC
    ) AS age
    FROM evaluations
    WHERE run_id IN (SELECT run_id FROM latest)
) AS ordered
WHERE age = 1
"""

LATEST_TRACES = """
CREATE VIEW latest_traces AS
WITH latest AS (
    SELECT run_id, pool, split FROM (
        SELECT runs.id AS run_id, runs.pool, runs.split, ROW_NUMBER() OVER (
            PARTITION BY of_run.model, of_run.dataset, runs.pool, runs.split, of_run.tracer
            ORDER BY runs.finished DESC, runs.id DESC
        ) AS age
        FROM (SELECT DISTINCT run_id, model, dataset, tracer FROM trace_scores) AS of_run
        JOIN runs ON runs.id = of_run.run_id AND runs.finished IS NOT NULL
    ) AS ordered
    WHERE age = 1
)
SELECT trace_scores.*, latest.pool, latest.split
FROM trace_scores
JOIN latest ON latest.run_id = trace_scores.run_id
"""

LATEST_ABLATIONS = """
CREATE VIEW latest_ablations AS
WITH latest AS (
    SELECT run_id, sign, operation FROM (
        SELECT runs.id AS run_id, of_run.sign, of_run.operation, ROW_NUMBER() OVER (
            PARTITION BY runs.model, runs.dataset, runs.pool, runs.split, of_run.sign, of_run.operation
            ORDER BY runs.finished DESC, runs.id DESC
        ) AS age
        FROM (
            SELECT DISTINCT units.run_id, ablations.sign, ablations.operation FROM ablations JOIN units ON units.id = ablations.unit_id
        ) AS of_run
        JOIN runs ON runs.id = of_run.run_id AND runs.finished IS NOT NULL
    ) AS ordered
    WHERE age = 1
)
SELECT runs.id AS run_id, runs.model, runs.dataset, runs.level, runs.category, runs.pool, runs.split, ablations.condition,
    ablations.sign, ablations.operation, ablations.size, ablations.trial, ablations.heads, ablations.n, ablations.accuracy,
    ablations.mean_probability, ablations.mean_logit_diff, ablations.accuracy_drop, ablations.drop_error, ablations.drop_low,
    ablations.drop_high, ablations.pair_accuracy
FROM ablations
JOIN units ON units.id = ablations.unit_id
JOIN runs ON runs.id = units.run_id
JOIN latest ON latest.run_id = runs.id AND latest.sign = ablations.sign AND latest.operation = ablations.operation
"""

LATEST_MODULATIONS = """
CREATE VIEW latest_modulations AS
WITH latest AS (
    SELECT run_id FROM (
        SELECT runs.id AS run_id, ROW_NUMBER() OVER (
            PARTITION BY runs.model, runs.dataset ORDER BY runs.finished DESC, runs.id DESC
        ) AS age
        FROM (SELECT DISTINCT units.run_id FROM modulations JOIN units ON units.id = modulations.unit_id) AS of_run
        JOIN runs ON runs.id = of_run.run_id AND runs.finished IS NOT NULL
    ) AS ordered
    WHERE age = 1
)
SELECT runs.id AS run_id, runs.model, runs.dataset, runs.level, runs.category, modulations.recipe, modulations.role,
    modulations.scales, modulations.strength, modulations.top_k, modulations.clip, modulations.chosen_on,
    modulations.evaluated_on, modulations.n, modulations.accuracy, modulations.base_accuracy, modulations.gain,
    modulations.gain_error, modulations.gain_low, modulations.gain_high, modulations.p_value, modulations.pair_accuracy
FROM modulations
JOIN units ON units.id = modulations.unit_id
JOIN runs ON runs.id = units.run_id
JOIN latest ON latest.run_id = runs.id
"""

CURRENT_VIEWS: dict[str, str] = {
    **{view_name(table): _of_units(table) for table in OF_UNITS},
    "stale_sample_sets": STALE_SAMPLE_SETS,
    **{view_name(table): _aggregate(table) for table in AGGREGATES},
    "latest_baselines": LATEST_BASELINES,
    "latest_answers": LATEST_ANSWERS,
    "latest_evaluations": LATEST_EVALUATIONS,
    "latest_traces": LATEST_TRACES,
    "latest_ablations": LATEST_ABLATIONS,
    "latest_modulations": LATEST_MODULATIONS,
}
"""View name → statement, in an order in which they can be created."""
