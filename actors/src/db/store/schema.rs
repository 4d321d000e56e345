//! Whether a database's schema suits this binary.
//!
//! Migrations only add, so a binary works on a schema that is newer than itself (E6): while instances are replaced one after
//! another, and after a rollback.

use sqlx::migrate::{AppliedMigration, Migrate, MigrateError, Migrator};

/// How a schema stands to what this binary knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Current,
    /// It has all that this binary knows, and more.
    Newer {
        by: usize,
    },
    /// It lacks something, or there is none.
    Older,
}

/// Asks a database that has had migrations.
///
/// # Errors
///
/// As [`judge`]; or one of them was left half applied.
pub(super) async fn standing(db: &mut impl Migrate, known: &Migrator) -> Result<Standing, MigrateError> {
    if let Some(version) = db.dirty_version(&known.table_name).await? {
        return Err(MigrateError::Dirty(version));
    }
    judge(known, &db.list_applied_migrations(&known.table_name).await?)
}

/// Compares what a database has with what this binary brings.
///
/// # Errors
///
/// [`MigrateError::VersionMismatch`]: one of them is not what it was when it was applied, so this is another history.
fn judge(known: &Migrator, applied: &[AppliedMigration]) -> Result<Standing, MigrateError> {
    let mut shared = 0;
    for migration in known.iter() {
        let Some(found) = applied.iter().find(|found| found.version == migration.version) else {
            return Ok(Standing::Older);
        };
        if found.checksum != migration.checksum {
            return Err(MigrateError::VersionMismatch(migration.version));
        }
        shared += 1;
    }
    Ok(match applied.len() - shared {
        0 => Standing::Current,
        by => Standing::Newer { by },
    })
}

/// The same migrations for a schema that may be newer in part.
pub(super) fn forwards(known: &Migrator) -> Migrator {
    let mut migrator = Migrator::with_migrations(known.iter().cloned().collect());
    migrator.set_ignore_missing(true);
    migrator
}

impl Standing {
    /// Whether this binary works on it; says when it is newer.
    pub(in crate::db::store) fn suits(self) -> bool {
        if let Self::Newer { by } = self {
            tracing::info!(migrations = by, "the schema is newer than this binary, which works on it");
        }
        self != Self::Older
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static KNOWN: Migrator = sqlx::migrate!("../migrations/sqlite");

    fn all() -> Vec<AppliedMigration> {
        KNOWN
            .iter()
            .map(|known| AppliedMigration { version: known.version, checksum: known.checksum.clone() })
            .collect()
    }

    #[test]
    fn e06_a_schema_is_older_current_newer_or_anothers() {
        let mut applied = all();
        assert_eq!(judge(&KNOWN, &[]).unwrap(), Standing::Older);
        assert_eq!(judge(&KNOWN, &applied[1..]).unwrap(), Standing::Older);
        assert_eq!(judge(&KNOWN, &applied).unwrap(), Standing::Current);
        applied.push(AppliedMigration { version: 9_999, checksum: vec![1].into() });
        assert_eq!(judge(&KNOWN, &applied).unwrap(), Standing::Newer { by: 1 });
        applied[0].checksum = vec![1].into();
        assert!(matches!(judge(&KNOWN, &applied), Err(MigrateError::VersionMismatch(1))));
    }
}
