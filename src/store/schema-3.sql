-- Version 3: a cell is a recipe; what became of its weights is a footprint; what only one method has to say is details.
DROP VIEW overview;

ALTER TABLE main.cells ADD COLUMN recipe TEXT NOT NULL DEFAULT ''; -- wanda@50%
ALTER TABLE main.cells ADD COLUMN footprint TEXT CHECK (footprint IS NULL OR json_valid(footprint)); -- weights, zeros, stored_bits, packed_bits of all compressed modules
UPDATE main.cells AS new SET recipe = old.recipe, footprint = old.footprint
FROM temp.cells AS old WHERE old.study = new.study AND old.id = new.id;

-- One compressed matrix.
CREATE TABLE new_modules (
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
INSERT INTO new_modules (study, cell, name, block, weights, zeros, stored_bits, packed_bits, reconstruction_error,
                         error_basis, dead_columns, details, seconds)
SELECT study, cell, name, block, weights, zeros, stored_bits, packed_bits, reconstruction_error, error_basis,
       dead_columns, details, seconds
FROM temp.modules ORDER BY place;

DROP VIEW temp.cells;
DROP VIEW temp.modules;
DROP TABLE modules;
ALTER TABLE new_modules RENAME TO modules;
ALTER TABLE cells DROP COLUMN method;
ALTER TABLE cells DROP COLUMN sparsity;
ALTER TABLE cells DROP COLUMN achieved_sparsity;

-- For people: SELECT * FROM overview WHERE kind = 'perplexity';
CREATE VIEW overview AS
SELECT m.study, s.model ->> 'source' AS model, ifnull(m.cell, 'base') AS cell, c.recipe, c.calibration,
       CAST(c.footprint ->> 'zeros' AS REAL) / (c.footprint ->> 'weights') AS sparsity,
       m.kind, m.data_set, m.value, m.lo, m.hi, m.n
FROM metrics AS m
JOIN studies AS s ON s.id = m.study
LEFT JOIN cells AS c ON c.study = m.study AND c.id = m.cell
ORDER BY m.study, m.kind, m.position, ifnull(c.position, -1);
