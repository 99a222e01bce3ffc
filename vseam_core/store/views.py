"""The views of the results database: what is current, ranked heads, and what the top heads of two tasks share.

Plain standard SQL (window functions, no SQLite dialect), so that a PostgreSQL store has them too.
"""

from __future__ import annotations

from sqlalchemy import Connection, inspect

from vseam_core.store.current_views import CURRENT_VIEWS
from vseam_core.store.schema import HEAD_SET_SIZES, head_set_sizes

# A head's strength is larger for a stronger head under either sign. `claims` measures: how much replacing the head lowers the
# measure over all sampled questions (positive) or raises it on wrong answers (negative); a claim counts (a negative one only when it
# was confirmed on test images) where its map is resolved, that is where its split-half reliability reaches 0.7. The published scores
# are already one-sided; they claim nothing, so `claimed` is null and every head with a score above 0 can be ranked.
RANKED_HEADS = """
CREATE VIEW ranked_heads AS
WITH scored AS (
    SELECT run_id, model, dataset, level, category, pool, operation, positions, measure, stack, layer, head,
        'positive' AS sign,
        CASE WHEN measure IN ('logit_diff', 'logprob') THEN support ELSE positive END AS score,
        CASE WHEN measure IN ('logit_diff', 'logprob') THEN low_support END AS low,
        CASE WHEN measure IN ('logit_diff', 'logprob') THEN high_support END AS high,
        CASE WHEN measure IN ('logit_diff', 'logprob') THEN q_positive END AS q_value,
        CASE WHEN measure NOT IN ('logit_diff', 'logprob') THEN NULL
            WHEN claim_positive AND reliability_support >= 0.7 THEN 1 ELSE 0 END AS claimed,
        CASE WHEN reliability_support >= 0.7 THEN 1 ELSE 0 END AS resolved,
        n_sampled AS n, reliability_support AS reliability
    FROM head_scores
    UNION ALL
    SELECT run_id, model, dataset, level, category, pool, operation, positions, measure, stack, layer, head,
        'negative' AS sign,
        CASE WHEN measure IN ('logit_diff', 'logprob') THEN -mean_wrong ELSE negative END AS score,
        CASE WHEN measure IN ('logit_diff', 'logprob') THEN -high_wrong END AS low,
        CASE WHEN measure IN ('logit_diff', 'logprob') THEN -low_wrong END AS high,
        CASE WHEN measure IN ('logit_diff', 'logprob') THEN q_negative END AS q_value,
        CASE WHEN measure NOT IN ('logit_diff', 'logprob') THEN NULL
            WHEN claim_negative AND reliability_wrong >= 0.7 THEN 1 ELSE 0 END AS claimed,
        CASE WHEN reliability_wrong >= 0.7 THEN 1 ELSE 0 END AS resolved,
        n_wrong AS n, reliability_wrong AS reliability
    FROM head_scores
),
totals AS (
    SELECT run_id, pool, operation, positions, measure, COUNT(*) AS heads_total
    FROM head_scores
    GROUP BY run_id, pool, operation, positions, measure
),
judged AS (
    SELECT scored.*, CASE WHEN claimed = 1 OR (claimed IS NULL AND score > 0) THEN 1 ELSE 0 END AS eligible
    FROM scored
    WHERE score IS NOT NULL
),
ranked AS (
    SELECT judged.*, ROW_NUMBER() OVER strongest_first AS head_rank, SUM(eligible) OVER strongest_first AS eligible_so_far
    FROM judged
    WINDOW strongest_first AS (
        PARTITION BY run_id, pool, operation, positions, measure, sign ORDER BY score DESC, stack, layer, head
    )
)
SELECT ranked.run_id, model, dataset, level, category, ranked.pool, ranked.operation, ranked.positions, ranked.measure,
    stack, layer, head, sign, head_rank, CASE WHEN eligible = 1 THEN eligible_so_far END AS claim_rank,
    score, low, high, q_value, claimed, n, resolved, reliability, totals.heads_total
FROM ranked
JOIN totals ON totals.run_id = ranked.run_id AND totals.pool = ranked.pool AND totals.operation = ranked.operation
    AND totals.positions = ranked.positions AND totals.measure = ranked.measure
"""

# Which scan of a model and task is shown: the complete run that was asked for last, whether it was exact or screened.
LATEST_SCANS = """
CREATE VIEW latest_scans AS
SELECT run_id, model, dataset, pool, operation, positions, measure
FROM (
    SELECT of_run.*, ROW_NUMBER() OVER (
        PARTITION BY of_run.model, dataset, of_run.pool, operation, positions, measure ORDER BY finished DESC, run_id DESC
    ) AS age
    FROM (
        SELECT DISTINCT head_scores.run_id, head_scores.model, head_scores.dataset, head_scores.pool, head_scores.operation,
            head_scores.positions, head_scores.measure, runs.finished
        FROM head_scores
        JOIN runs ON runs.id = head_scores.run_id AND runs.finished IS NOT NULL
    ) AS of_run
) AS ordered
WHERE age = 1
"""

TOP_HEADS = """
CREATE VIEW top_heads AS
SELECT ranked_heads.*
FROM ranked_heads
JOIN latest_scans ON latest_scans.run_id = ranked_heads.run_id AND latest_scans.pool = ranked_heads.pool
    AND latest_scans.operation = ranked_heads.operation AND latest_scans.positions = ranked_heads.positions
    AND latest_scans.measure = ranked_heads.measure
"""

# Heads are not exchangeable across layers, so `expected` (the overlap of two random sets) is a plain yardstick; the
# layer-stratified null and its p-values are in shared_head_tests. Below k heads that pass, overlap is null, never 0.
# Only scans of one kind are compared (an exact one never with a screened one); of several such pairs the latest is shown.
SHARED_HEADS = """
CREATE VIEW shared_heads AS
WITH ranked AS (
    SELECT run_id, model, dataset, level, category, pool, operation, positions, measure, sign, stack, layer, head,
        claim_rank, heads_total
    FROM ranked_heads
),
tasks AS (
    SELECT run_id, model, dataset, level, category, pool, operation, positions, measure, sign,
        MAX(heads_total) AS heads_total, COUNT(claim_rank) AS eligible
    FROM ranked
    GROUP BY run_id, model, dataset, level, category, pool, operation, positions, measure, sign
),
comparable AS (
    SELECT a.model, a.run_id AS run_a, b.run_id AS run_b, a.dataset AS task_a, b.dataset AS task_b,
        a.category AS category_a, b.category AS category_b, a.level AS level_a, b.level AS level_b,
        a.pool, a.operation, a.positions, a.measure, a.sign, a.heads_total,
        a.eligible AS eligible_a, b.eligible AS eligible_b,
        ROW_NUMBER() OVER (
            PARTITION BY a.model, a.dataset, b.dataset, a.pool, a.operation, a.positions, a.measure, a.sign
            ORDER BY CASE WHEN of_a.finished < of_b.finished THEN of_a.finished ELSE of_b.finished END DESC, a.run_id DESC, b.run_id DESC
        ) AS age
    FROM tasks AS a
    JOIN tasks AS b ON b.model = a.model AND b.pool = a.pool AND b.operation = a.operation
        AND b.positions = a.positions AND b.measure = a.measure AND b.sign = a.sign AND a.dataset < b.dataset
    JOIN runs AS of_a ON of_a.id = a.run_id AND of_a.finished IS NOT NULL
    JOIN runs AS of_b ON of_b.id = b.run_id AND of_b.weights_hash = of_a.weights_hash AND of_b.method = of_a.method
        AND of_b.method_version = of_a.method_version AND of_b.split = of_a.split AND of_b.seed = of_a.seed
        AND of_b.configuration = of_a.configuration AND of_b.finished IS NOT NULL
),
task_pairs AS (
    SELECT * FROM comparable WHERE age = 1
),
eligible_heads AS (
    SELECT run_id, pool, operation, positions, measure, sign, stack, layer, head, claim_rank
    FROM ranked
    WHERE claim_rank <= (SELECT MAX(k) FROM head_set_sizes)
),
matches AS (
    SELECT a.run_id AS run_a, b.run_id AS run_b, a.pool, a.operation, a.positions, a.measure, a.sign,
        CASE WHEN a.claim_rank > b.claim_rank THEN a.claim_rank ELSE b.claim_rank END AS needed
    FROM eligible_heads AS a
    JOIN eligible_heads AS b ON b.pool = a.pool AND b.operation = a.operation AND b.positions = a.positions
        AND b.measure = a.measure AND b.sign = a.sign AND b.stack = a.stack AND b.layer = a.layer AND b.head = a.head
        AND b.run_id <> a.run_id
),
counted AS (
    SELECT task_pairs.*, head_set_sizes.k,
        (SELECT COUNT(*) FROM matches
            WHERE matches.run_a = task_pairs.run_a AND matches.run_b = task_pairs.run_b
            AND matches.pool = task_pairs.pool AND matches.operation = task_pairs.operation
            AND matches.positions = task_pairs.positions AND matches.measure = task_pairs.measure
            AND matches.sign = task_pairs.sign AND matches.needed <= head_set_sizes.k) AS common
    FROM task_pairs
    JOIN head_set_sizes ON head_set_sizes.k * 10 <= task_pairs.heads_total
)
SELECT model, task_a, task_b, category_a, category_b, level_a, level_b, pool, operation, positions, measure, sign, k,
    CASE WHEN eligible_a >= k AND eligible_b >= k THEN common END AS overlap,
    CASE WHEN eligible_a >= k AND eligible_b >= k THEN 1.0 * common / (2 * k - common) END AS jaccard,
    1.0 * k * k / heads_total AS expected,
    eligible_a, eligible_b, heads_total, run_a, run_b
FROM counted
"""

EDIT_IMAGES = """
CREATE VIEW edit_images AS
SELECT edits.identifier, clean.identifier AS clean, edited.identifier AS edited, clean.image_width, clean.image_height,
    one.format, one.data AS clean_image, two.data AS edited_image, mask.data AS mask_image
FROM edits
JOIN samples AS clean ON clean.id = edits.clean_id
JOIN samples AS edited ON edited.id = edits.corrupt_id
LEFT JOIN thumbnails AS one ON one.digest = clean.thumbnail
LEFT JOIN thumbnails AS two ON two.digest = edited.thumbnail
LEFT JOIN thumbnails AS mask ON mask.digest = edits.mask_thumbnail
"""

VIEWS: dict[str, str] = {
    **CURRENT_VIEWS,
    "edit_images": EDIT_IMAGES,
    "ranked_heads": RANKED_HEADS,
    "latest_scans": LATEST_SCANS,
    "top_heads": TOP_HEADS,
    "shared_heads": SHARED_HEADS,
}
"""View name → statement, in an order in which they can be created."""


def drop_views(connection: Connection) -> None:
    """Remove the views before a migration changes what they look at; those of an older program among them."""
    present = set(inspect(connection).get_view_names())
    for name in reversed(VIEWS):
        if name in present:
            connection.exec_driver_sql(f"DROP VIEW {name}")


def create_views(connection: Connection) -> None:
    """Create the views as this program defines them, and the table of set sizes that they count over."""
    known = set(connection.execute(head_set_sizes.select()).scalars())
    missing = [{"k": size} for size in HEAD_SET_SIZES if size not in known]
    if missing:
        connection.execute(head_set_sizes.insert(), missing)
    for statement in VIEWS.values():
        connection.exec_driver_sql(statement)
