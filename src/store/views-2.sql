CREATE TEMP VIEW answers_2 AS SELECT * FROM main.answers;
