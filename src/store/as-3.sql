-- What versions 1 and 2 hold, as version 3 has it: readers of an older store ask these views, and a writer copies them.
CREATE TEMP VIEW IF NOT EXISTS modules AS
SELECT m.rowid AS place, m.study, m.cell, m.name, m.block, m.weights, m.zeros,
       m.weights * b.bits AS stored_bits, m.weights + (m.weights - m.zeros) * b.bits AS packed_bits,
       m.reconstruction_error, m.error_basis, m.dead_columns,
       CASE WHEN m.damping IS NULL THEN '{}' ELSE json_object('damping', m.damping) END AS details, m.seconds
FROM main.modules AS m
JOIN (SELECT id, CASE model ->> 'dtype' WHEN 'F32' THEN 32 ELSE 16 END AS bits FROM main.studies) AS b
    ON b.id = m.study;

CREATE TEMP VIEW IF NOT EXISTS cells AS
SELECT c.study, c.id, c.position, c.method || '@' || c.sparsity AS recipe, c.calibration, c.seed, c.state,
       CASE WHEN c.achieved_sparsity IS NOT NULL THEN
           (SELECT json_object('weights', ifnull(sum(weights), 0), 'zeros', ifnull(sum(zeros), 0),
                               'stored_bits', ifnull(sum(stored_bits), 0), 'packed_bits', ifnull(sum(packed_bits), 0))
            FROM temp.modules WHERE study = c.study AND cell = c.id)
       END AS footprint,
       c.peak_rss_bytes, c.warnings
FROM main.cells AS c;
