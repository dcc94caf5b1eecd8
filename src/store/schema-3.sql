-- Version 3: a cell is a recipe; what became of its weights is a footprint; scores are rows. What only one method or
-- score has to say is details, and what is measured and where time goes is open.
-- The views of views-3.sql are there: everything is copied as they have it.
DROP VIEW main.overview;
-- Studies are few, and what makes two the same is more than equal text.
DROP INDEX main.studies_by_fingerprint;

ALTER TABLE main.cells ADD COLUMN recipe TEXT NOT NULL DEFAULT ''; -- wanda@50%
ALTER TABLE main.cells ADD COLUMN footprint TEXT CHECK (footprint IS NULL OR json_valid(footprint)); -- weights, zeros, stored_bits, packed_bits of all compressed modules
UPDATE main.cells AS new SET recipe = old.recipe, footprint = old.footprint
FROM temp.cells AS old WHERE old.study = new.study AND old.id = new.id;

-- One compressed matrix.
CREATE TABLE main.new_modules (
    place INTEGER PRIMARY KEY, -- in the order in which they were compressed
    study INTEGER NOT NULL,
    cell TEXT NOT NULL,
    name TEXT NOT NULL, -- model.layers.3.mlp.up_proj
    block INTEGER NOT NULL,
    weights INTEGER NOT NULL,
    zeros INTEGER NOT NULL,
    stored_bits INTEGER NOT NULL, -- as the best export stores the matrix
    packed_bits INTEGER NOT NULL, -- with a bit a weight for what is zero, and nothing else for it
    reconstruction_error REAL NOT NULL, -- relative, squared
    error_basis TEXT NOT NULL,
    dead_columns INTEGER NOT NULL,
    details TEXT NOT NULL CHECK (json_valid(details)), -- numbers by name that only the method has
    seconds REAL NOT NULL,
    UNIQUE (study, cell, name),
    FOREIGN KEY (study, cell) REFERENCES cells (study, id) ON DELETE CASCADE
);
INSERT INTO main.new_modules (study, cell, name, block, weights, zeros, stored_bits, packed_bits, reconstruction_error,
                         error_basis, dead_columns, details, seconds)
SELECT study, cell, name, block, weights, zeros, stored_bits, packed_bits, reconstruction_error, error_basis,
       dead_columns, details, seconds
FROM temp.modules ORDER BY place;

-- One measurement. A number that is none is the text nan, as in every REAL column here.
CREATE TABLE main.new_metrics (
    study INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
    cell TEXT,
    position INTEGER NOT NULL, -- orders the measurements of one model
    score TEXT NOT NULL, -- perplexity, js_divergence, f1, ...
    data_set TEXT NOT NULL, -- short name of the corpus or task
    value REAL NOT NULL, -- divergences in bits; agreement and task scores 0 to 1
    lo REAL NOT NULL, -- the 95% interval
    hi REAL NOT NULL,
    n INTEGER NOT NULL, -- windows of a corpus, records of a task
    details TEXT NOT NULL CHECK (json_valid(details)), -- what else the score says: {"nats":0.1}
    FOREIGN KEY (study, cell) REFERENCES cells (study, id) ON DELETE CASCADE
);
INSERT INTO main.new_metrics (study, cell, position, score, data_set, value, lo, hi, n, details)
SELECT study, cell, position, score, data_set, value, lo, hi, n, details FROM temp.metrics;

-- One model's answer to one record.
CREATE TABLE main.new_answers (
    study INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
    cell TEXT,
    task TEXT NOT NULL,
    record INTEGER NOT NULL,
    text TEXT NOT NULL,
    tokens TEXT NOT NULL CHECK (json_valid(tokens)), -- a JSON list of token ids
    scores TEXT NOT NULL CHECK (json_valid(scores)), -- scores ->> 'f1'
    pieces TEXT NOT NULL CHECK (json_valid(pieces)), -- a JSON list: the text of each token
    disagreement_bits TEXT NOT NULL CHECK (json_valid(disagreement_bits)), -- a JSON list: JS in bits at each token; empty where not measured
    FOREIGN KEY (study, cell) REFERENCES cells (study, id) ON DELETE CASCADE,
    FOREIGN KEY (study, task, record) REFERENCES questions (study, task, record) ON DELETE CASCADE
);
INSERT INTO main.new_answers (study, cell, task, record, text, tokens, scores, pieces, disagreement_bits)
SELECT study, cell, task, record, text, tokens, scores, pieces, disagreement_bits FROM temp.answers;

-- Where the time went.
CREATE TABLE main.new_timings (
    study INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
    cell TEXT,
    phase TEXT NOT NULL, -- load, calibrate, prune, evaluate, answer
    seconds REAL NOT NULL,
    FOREIGN KEY (study, cell) REFERENCES cells (study, id) ON DELETE CASCADE
);
INSERT INTO main.new_timings (study, cell, phase, seconds)
SELECT study, cell, phase, seconds FROM temp.timings;

DROP VIEW temp.cells;
DROP VIEW temp.modules;
DROP VIEW temp.metrics;
DROP VIEW temp.answers;
DROP VIEW temp.answers_2;
DROP VIEW temp.timings;
DROP TABLE main.modules;
DROP TABLE main.metrics;
DROP TABLE main.answers;
DROP TABLE main.timings;
ALTER TABLE main.new_modules RENAME TO modules;
ALTER TABLE main.new_metrics RENAME TO metrics;
ALTER TABLE main.new_answers RENAME TO answers;
ALTER TABLE main.new_timings RENAME TO timings;

ALTER TABLE main.cells DROP COLUMN method;
ALTER TABLE main.cells DROP COLUMN sparsity;
ALTER TABLE main.cells DROP COLUMN achieved_sparsity;

CREATE UNIQUE INDEX metrics_key ON metrics (study, ifnull(cell, ''), position);
CREATE UNIQUE INDEX answers_key ON answers (study, ifnull(cell, ''), task, record);
CREATE INDEX answers_by_question ON answers (study, task, record);
CREATE UNIQUE INDEX timings_key ON timings (study, ifnull(cell, ''), phase);

-- For people: SELECT * FROM overview WHERE score = 'perplexity';
CREATE VIEW overview AS
SELECT m.study, s.model ->> 'source' AS model, ifnull(m.cell, 'base') AS cell, c.recipe, c.calibration,
       CAST(c.footprint ->> 'zeros' AS REAL) / (c.footprint ->> 'weights') AS sparsity,
       m.score, m.data_set, m.value, m.lo, m.hi, m.n
FROM metrics AS m
JOIN studies AS s ON s.id = m.study
LEFT JOIN cells AS c ON c.study = m.study AND c.id = m.cell
ORDER BY m.study, m.score, m.position, ifnull(c.position, -1);
