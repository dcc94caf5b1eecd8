-- Versions 1 to 3 hold no questions with choices.
CREATE TEMP VIEW choice_texts AS
SELECT NULL AS study, NULL AS task, NULL AS record, NULL AS texts WHERE 0;
CREATE TEMP VIEW likelihoods AS
SELECT NULL AS study, NULL AS cell, NULL AS task, NULL AS record, NULL AS choices WHERE 0;
