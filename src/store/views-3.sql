-- What versions 1 and 2 hold, as version 3 has it: readers of an older store look at these views, which hide the tables
-- of the same names, and a writer copies them. Numbers within JSON are written by exact_json, a function of this
-- program, so that they come back to the last bit.
CREATE TEMP VIEW metrics AS
SELECT study, cell,
       -- Data set by data set: first the corpora, then the tasks.
       CASE kind WHEN 'perplexity' THEN 0 WHEN 'js_divergence' THEN 1 WHEN 'kl_divergence' THEN 2
                 WHEN 'top1_agreement' THEN 3 WHEN 'exact_match' THEN 1000000 WHEN 'f1' THEN 1000001
                 ELSE 1000002 END + 4 * position AS position,
       kind AS score, data_set, value, lo, hi,
       -- A divergence is measured on the same windows as the perplexity.
       coalesce(n, (SELECT p.n FROM main.metrics AS p
                    WHERE p.study = m.study AND p.cell IS m.cell AND p.kind = 'perplexity'
                      AND p.position = m.position), 0) AS n,
       CASE WHEN nats IS NOT NULL THEN '{"nats":' || exact_json(nats) || '}'
            WHEN standard_error_nats IS NOT NULL
            THEN '{"standard_error_nats":' || exact_json(standard_error_nats) || '}'
            ELSE '{}' END AS details
FROM main.metrics AS m;

CREATE TEMP VIEW answers AS
SELECT study, cell, task, record, text, tokens,
       '{"exact_match":' || exact_json(exact_match) || ',"f1":' || exact_json(f1)
           || ',"rouge1":' || exact_json(rouge1) || '}' AS scores,
       pieces, disagreement_bits
FROM answers_2;

CREATE TEMP VIEW timings AS SELECT study, cell, phase, seconds FROM main.timings;

CREATE TEMP VIEW modules AS
SELECT m.rowid AS place, m.study, m.cell, m.name, m.block, m.weights, m.zeros,
       m.weights * b.bits AS stored_bits, m.weights + (m.weights - m.zeros) * b.bits AS packed_bits,
       m.reconstruction_error, m.error_basis, m.dead_columns,
       CASE WHEN m.damping IS NULL THEN '{}' ELSE '{"damping":' || exact_json(m.damping) || '}' END AS details, m.seconds
FROM main.modules AS m
JOIN (SELECT id, CASE model ->> 'dtype' WHEN 'F32' THEN 32 ELSE 16 END AS bits FROM main.studies) AS b
    ON b.id = m.study;

CREATE TEMP VIEW cells AS
SELECT c.study, c.id, c.position, c.method || '@' || c.sparsity AS recipe, c.calibration, c.seed, c.state,
       CASE WHEN c.achieved_sparsity IS NOT NULL THEN
           (SELECT json_object('weights', ifnull(sum(weights), 0), 'zeros', ifnull(sum(zeros), 0),
                               'stored_bits', ifnull(sum(stored_bits), 0), 'packed_bits', ifnull(sum(packed_bits), 0))
            FROM temp.modules WHERE study = c.study AND cell = c.id)
       END AS footprint,
       c.peak_rss_bytes, c.warnings
FROM main.cells AS c;
