-- A migration ends as it began: as the role of the session, with the session's search path.
set local role none;
set local search_path = pg_catalog;
