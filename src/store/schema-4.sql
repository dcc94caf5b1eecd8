-- Version 4: questions with choices.
CREATE TABLE choice_texts (
    study INTEGER NOT NULL,
    task TEXT NOT NULL,
    record INTEGER NOT NULL,
    texts TEXT NOT NULL CHECK (json_valid(texts)), -- a JSON list: the choices, in their order
    PRIMARY KEY (study, task, record),
    FOREIGN KEY (study, task, record) REFERENCES questions (study, task, record) ON DELETE CASCADE
) WITHOUT ROWID;

-- How likely a model finds the choices of a question.
CREATE TABLE likelihoods (
    study INTEGER NOT NULL REFERENCES studies (id) ON DELETE CASCADE,
    cell TEXT,
    task TEXT NOT NULL,
    record INTEGER NOT NULL,
    choices TEXT NOT NULL CHECK (json_valid(choices)), -- a JSON list: of each its log_likelihood in nats, and is_greedy
    FOREIGN KEY (study, cell) REFERENCES cells (study, id) ON DELETE CASCADE,
    FOREIGN KEY (study, task, record) REFERENCES questions (study, task, record) ON DELETE CASCADE
);
CREATE UNIQUE INDEX likelihoods_key ON likelihoods (study, ifnull(cell, ''), task, record);
CREATE INDEX likelihoods_by_question ON likelihoods (study, task, record);
