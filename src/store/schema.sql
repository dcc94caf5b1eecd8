-- A study: one base model, one set of evaluation data, a list of cells.
-- spec, model and environment are JSON: SELECT model ->> 'source' FROM studies.
CREATE TABLE studies (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at INTEGER NOT NULL, -- seconds since 1970, UTC
    spec TEXT NOT NULL CHECK (json_valid(spec)),
    model TEXT NOT NULL CHECK (json_valid(model)),
    environment TEXT NOT NULL CHECK (json_valid(environment)),
    fingerprint TEXT NOT NULL CHECK (json_valid(fingerprint)) -- all of spec that changes a cell's numbers
);
CREATE INDEX studies_by_fingerprint ON studies (fingerprint);

-- The base model of a study. In all tables below, cell NULL means the base.
CREATE TABLE base (
    study INTEGER PRIMARY KEY REFERENCES studies (id) ON DELETE CASCADE,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'cancelled', 'failed'))
);

CREATE TABLE cells (
    study INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
    id TEXT NOT NULL,
    position INTEGER NOT NULL, -- place in the grid, from 0
    method TEXT NOT NULL,
    sparsity TEXT NOT NULL, -- as asked for: 0.5 or 2:4
    calibration TEXT, -- data set as the user named it
    seed INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'cancelled', 'failed')),
    achieved_sparsity REAL, -- counted, 0 to 1
    peak_rss_bytes INTEGER NOT NULL,
    warnings TEXT NOT NULL CHECK (json_valid(warnings)), -- a JSON list of strings
    PRIMARY KEY (study, id)
) WITHOUT ROWID;

-- One pruned matrix.
CREATE TABLE modules (
    study INTEGER NOT NULL,
    cell TEXT NOT NULL,
    name TEXT NOT NULL, -- model.layers.3.mlp.up_proj
    block INTEGER NOT NULL,
    sparsity REAL NOT NULL,
    zeros INTEGER NOT NULL,
    weights INTEGER NOT NULL,
    reconstruction_error REAL NOT NULL, -- relative, squared
    error_basis TEXT NOT NULL CHECK (error_basis IN ('hessian', 'column_norms', 'weights')),
    damping REAL,
    dead_columns INTEGER NOT NULL,
    seconds REAL NOT NULL,
    UNIQUE (study, cell, name),
    FOREIGN KEY (study, cell) REFERENCES cells (study, id) ON DELETE CASCADE
);

-- One measurement. A number that is none is the text nan, as in every REAL column here.
CREATE TABLE metrics (
    study INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
    cell TEXT,
    kind TEXT NOT NULL CHECK (kind IN ('perplexity', 'js_divergence', 'kl_divergence', 'top1_agreement',
                                       'exact_match', 'f1', 'rouge1')),
    position INTEGER NOT NULL, -- place of the data set in the study, from 0
    data_set TEXT NOT NULL,
    value REAL NOT NULL, -- divergences in bits; agreement and task scores 0 to 1
    lo REAL NOT NULL, -- the 95% interval
    hi REAL NOT NULL,
    n INTEGER, -- windows of a perplexity, records of a task
    nats REAL, -- divergences only
    standard_error_nats REAL, -- perplexity only
    FOREIGN KEY (study, cell) REFERENCES cells (study, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX metrics_key ON metrics (study, ifnull(cell, ''), kind, position);

-- One record of a task file, as it was put to every model.
CREATE TABLE questions (
    study INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
    task TEXT NOT NULL,
    record INTEGER NOT NULL, -- place in the task file, from 0
    prompt TEXT NOT NULL,
    reference_answers TEXT NOT NULL CHECK (json_valid(reference_answers)), -- a JSON list of strings
    PRIMARY KEY (study, task, record)
) WITHOUT ROWID;

-- One model's answer to one record.
CREATE TABLE answers (
    study INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
    cell TEXT,
    task TEXT NOT NULL,
    record INTEGER NOT NULL,
    text TEXT NOT NULL,
    tokens TEXT NOT NULL CHECK (json_valid(tokens)), -- a JSON list of token ids
    exact_match REAL NOT NULL,
    f1 REAL NOT NULL,
    rouge1 REAL NOT NULL,
    FOREIGN KEY (study, cell) REFERENCES cells (study, id) ON DELETE CASCADE,
    FOREIGN KEY (study, task, record) REFERENCES questions (study, task, record) ON DELETE CASCADE
);
CREATE UNIQUE INDEX answers_key ON answers (study, ifnull(cell, ''), task, record);

CREATE INDEX answers_by_question ON answers (study, task, record);

-- Where the time went.
CREATE TABLE timings (
    study INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
    cell TEXT,
    phase TEXT NOT NULL CHECK (phase IN ('load', 'calibrate', 'prune', 'evaluate', 'answer')),
    seconds REAL NOT NULL,
    FOREIGN KEY (study, cell) REFERENCES cells (study, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX timings_key ON timings (study, ifnull(cell, ''), phase);

-- For people: SELECT * FROM overview WHERE kind = 'perplexity';
CREATE VIEW overview AS
SELECT m.study, s.model ->> 'source' AS model, ifnull(m.cell, 'base') AS cell, c.method, c.sparsity, c.calibration,
       c.achieved_sparsity, m.kind, m.data_set, m.value, m.lo, m.hi, m.n
FROM metrics AS m
JOIN studies AS s ON s.id = m.study
LEFT JOIN cells AS c ON c.study = m.study AND c.id = m.cell
ORDER BY m.study, m.kind, m.position, ifnull(c.position, -1);
