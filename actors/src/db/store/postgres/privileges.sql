-- Takes back from everybody but their owner what default privileges gave away: what is in the audit trail stays as it was
-- written, and only migrations write down that they were applied. Does nothing where there is nothing to take back.
DO $$
DECLARE
    too_much record;
BEGIN
    -- Two that change the same rights at once fail.
    PERFORM pg_advisory_xact_lock(6000000000000001);
    FOR too_much IN
        SELECT relation.oid::regclass AS name, rights.privilege_type AS privilege,
               CASE rights.grantee WHEN 0 THEN 'PUBLIC' ELSE rights.grantee::regrole::text END AS role
        FROM pg_class relation, aclexplode(relation.relacl) rights
        WHERE relation.oid IN (to_regclass('audit_log'), to_regclass('_sqlx_migrations'))
          AND rights.grantee <> relation.relowner
          AND rights.privilege_type NOT IN ('SELECT', 'REFERENCES')
          AND NOT (relation.oid = to_regclass('audit_log') AND rights.privilege_type = 'INSERT')
          AND pg_has_role(relation.relowner, 'USAGE')
    LOOP
        EXECUTE format('REVOKE %s ON %s FROM %s', too_much.privilege, too_much.name, too_much.role);
    END LOOP;
END
$$;
