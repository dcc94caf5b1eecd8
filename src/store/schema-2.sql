-- Version 2: how far base and cell disagreed at each token of an answer.
ALTER TABLE answers ADD COLUMN pieces TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(pieces)); -- a JSON list: the text of each token
ALTER TABLE answers ADD COLUMN disagreement_bits TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(disagreement_bits)); -- a JSON list: JS in bits at each token; empty where not measured
