import Postgres

// Roles are made and changed by commands that take no parameters. So what they need is put into settings of the
// transaction, as bound parameters, and a block quotes it from there with format(): no text of ours or of anybody else's
// becomes part of a statement on the way.

enum PostgresRoleStatements {
  /// $1 name, $2 verifier, $3 seconds that it may live, $4 most connections, $5 groups.
  static let say = Statement(
    name: "credentials_say_role",
    sql: """
      SELECT set_config('cordon.role', $1::text, true), set_config('cordon.verifier', $2::text, true),
        set_config('cordon.seconds', $3::float8::text, true), set_config('cordon.connections', $4::int::text, true),
        set_config('cordon.groups', $5::text[]::text, true)
      """)

  /// The end is the server's clock's: a worker's may be wrong.
  static let make = Statement(
    name: "credentials_make_role",
    sql: """
      DO $make$
      DECLARE
        role text := current_setting('cordon.role');
        wanted text;
        known pg_roles;
        reached text;
      BEGIN
        EXECUTE format('CREATE ROLE %I LOGIN CONNECTION LIMIT %s PASSWORD %L VALID UNTIL %L', role,
          current_setting('cordon.connections')::int, current_setting('cordon.verifier'),
          clock_timestamp() + make_interval(secs => current_setting('cordon.seconds')::float8));
        FOREACH wanted IN ARRAY current_setting('cordon.groups')::text[] LOOP
          SELECT * INTO known FROM pg_roles WHERE rolname = wanted;
          IF NOT FOUND THEN
            RAISE EXCEPTION 'there is no role %', quote_ident(wanted) USING ERRCODE = 'CR001';
          END IF;
          IF known.rolcanlogin THEN
            RAISE EXCEPTION 'the role % may log in, so it is no group', quote_ident(wanted) USING ERRCODE = 'CR001';
          END IF;
          -- By SET ROLE a member has what its groups have, and theirs.
          SELECT r.rolname INTO reached FROM pg_roles r
          WHERE pg_has_role(known.oid, r.oid, 'MEMBER')
            AND (r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls
              OR r.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files',
                'pg_signal_backend'))
          LIMIT 1;
          IF FOUND THEN
            RAISE EXCEPTION 'the group % gives the rights of %, which reach beyond tables', quote_ident(wanted),
              quote_ident(reached) USING ERRCODE = 'CR001';
          END IF;
          EXECUTE format('GRANT %I TO %I', wanted, role);
        END LOOP;
      END $make$
      """)

  /// Nobody gets in from here on, and who is in may no longer do what the groups may. Who is no superuser must be a member
  /// of a role to end its sessions and to give away what it owns.
  static let bar = Statement(
    name: "credentials_bar_role",
    sql: """
      DO $bar$
      DECLARE
        role text := current_setting('cordon.role');
        held text;
      BEGIN
        EXECUTE format('ALTER ROLE %I NOLOGIN PASSWORD NULL CONNECTION LIMIT 0 VALID UNTIL ''-infinity''', role);
        FOR held IN SELECT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
          JOIN pg_roles r ON r.oid = m.member WHERE r.rolname = role
        LOOP
          EXECUTE format('REVOKE %I FROM %I', held, role);
        END LOOP;
        IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
          EXECUTE format('GRANT %I TO CURRENT_USER', role);
        END IF;
      END $bar$
      """)

  static let terminate = Statement(
    name: "credentials_end_sessions",
    sql: """
      SELECT count(pg_terminate_backend(a.pid)) AS ended
      FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid WHERE r.rolname = $1
      """)

  /// What is left of a role; no row where it is gone.
  static let look = Statement(
    name: "credentials_look_at_role",
    sql: """
      SELECT r.rolcanlogin AS enters,
        (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid = r.oid) AS sessions,
        (SELECT count(*) FROM pg_prepared_xacts x WHERE x.owner = r.rolname) AS prepared
      FROM pg_roles r WHERE r.rolname = $1
      """)

  /// What the job made goes to the first group. To the admin it must not: a function of the job would then run with the
  /// admin's rights. Who gives to a group must be in it, and the admin is for no longer than this transaction, of which
  /// nobody else sees a part.
  static let drop = Statement(
    name: "credentials_drop_role",
    sql: """
      DO $drop$
      DECLARE
        role text := current_setting('cordon.role');
        heir text := (current_setting('cordon.groups')::text[])[1];
        joined bool := false;
      BEGIN
        IF NOT pg_has_role(heir, 'USAGE') THEN
          EXECUTE format('GRANT %I TO CURRENT_USER', heir);
          joined := true;
        END IF;
        EXECUTE format('REASSIGN OWNED BY %I TO %I', role, heir);
        IF joined THEN
          EXECUTE format('REVOKE %I FROM CURRENT_USER', heir);
        END IF;
        EXECUTE format('DROP OWNED BY %I', role);
        EXECUTE format('DROP ROLE %I', role);
      END $drop$
      """)

  /// $1 what the names begin with.
  static let list = Statement(
    name: "credentials_list_roles",
    sql: "SELECT rolname::text AS name FROM pg_roles WHERE starts_with(rolname::text, $1) ORDER BY rolname")
}
