//! The users of a server on one machine, and their tokens: a file of its own in the data directory, beside
//! the store and its lock, so that the commands `user` and `token` work while the server runs.
//!
//! A token is `imagehub_ID_SECRET`. The file holds the SHA-256 of the secret only.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use parking_lot::Mutex;
use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::Caller;
use super::caller::MASTERS;
use crate::api::name::hex;

/// The file's name in the data directory.
pub const FILE: &str = "users.json";
/// The longest user name, in bytes.
pub const LONGEST_NAME: usize = 63;
/// The most users of one server.
pub const USERS: usize = 10_000;
/// The most tokens of one user.
pub const TOKENS: usize = 100;
/// The most groups of one user.
pub const GROUPS: usize = 64;
/// The largest file that is read, in bytes.
const FILE_LIMIT: u64 = 64 * 1024 * 1024;
/// How often the file is looked at for tokens that were taken back while nobody asks. Requests look each time.
pub const LOOK_EVERY: Duration = Duration::from_millis(250);

const PREFIX: &str = "imagehub_";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

/// What is wrong with the users or a change of them: a sentence for the person at the command line.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// The file can't be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("{} can't be read ({why}): put a copy back, or remove it and make the users anew", path.display())]
    Bad {
        /// Which one.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// What was asked for is not possible.
    #[error("{0}")]
    Refused(String),
}

/// A user, as stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The groups that the user is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// When the user was added, RFC 3339.
    pub created: String,
    /// The user's tokens.
    #[serde(default)]
    pub tokens: Vec<Token>,
}

/// A token, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// What it is found by.
    pub id: String,
    /// The SHA-256 of its secret, in hexadecimal.
    pub hash: String,
    /// When it was made, RFC 3339.
    pub created: String,
}

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Users {
    /// The users by name.
    #[serde(default)]
    pub users: BTreeMap<String, User>,
}

/// Whether a local user may have this name.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub fn check_user_name(name: &str) -> Result<(), UsersError> {
    let refused = |why: &str| Err(UsersError::Refused(format!("a user can't be called {name:?}: {why}")));
    if name.is_empty() || name.len() > LONGEST_NAME {
        return refused(&format!("want 1 to {LONGEST_NAME} characters"));
    }
    if name.contains(':') {
        return refused("a colon is for names like system:serviceaccount:NAMESPACE:NAME; leave it out");
    }
    if name == "admin" {
        return refused("this is the administrator, whose certificate is in the data directory's kubeconfig");
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(legal) {
        return refused("want letters, digits, '.', '_', '-' and '@', the first of them a letter or digit");
    }
    Ok(())
}

fn check_group(group: &str) -> Result<(), UsersError> {
    let plain = !group.is_empty() && group.len() <= 253 && group.chars().all(|c| c.is_ascii_graphic());
    if plain && (group == MASTERS || !group.starts_with("system:")) {
        return Ok(());
    }
    Err(UsersError::Refused(format!(
        "a user can't be in the group {group:?}: want printable ASCII without spaces, and of the names that begin with \
         system: only {MASTERS}, which makes an administrator"
    )))
}

impl Users {
    /// Reads the file in `dir`; no file is no users.
    ///
    /// # Errors
    /// It can't be read, or isn't one.
    pub fn read(dir: &Path) -> Result<Self, UsersError> {
        let path = dir.join(FILE);
        let bytes = match File::open(&path) {
            Ok(file) => {
                let mut bytes = Vec::new();
                let mut limited = io::Read::take(file, FILE_LIMIT);
                io::Read::read_to_end(&mut limited, &mut bytes)
                    .map_err(|source| UsersError::Io { path: path.clone(), source })?;
                bytes
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(UsersError::Io { path, source }),
        };
        serde_json::from_slice(&bytes).map_err(|error| UsersError::Bad { path, why: error.to_string() })
    }

    /// Changes the file in `dir`: one change at a time, whole or not at all.
    ///
    /// # Errors
    /// What `change` refuses; the file can't be read or written.
    pub fn change<T>(dir: &Path, change: impl FnOnce(&mut Self) -> Result<T, UsersError>) -> Result<T, UsersError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| UsersError::Io { path, source }
        };
        let lock_path = dir.join("users.lock");
        let lock = fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock_path);
        let lock = lock.map_err(at(&lock_path))?;
        // Another command at the same time waits; the lock goes with the file's handle.
        lock.lock().map_err(at(&lock_path))?;
        let mut users = Self::read(dir)?;
        let done = change(&mut users)?;
        let path = dir.join(FILE);
        let part = dir.join(format!("{FILE}.part"));
        let write = || {
            let mut file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&part)?;
            serde_json::to_writer_pretty(&mut file, &users)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&part, &path)?;
            File::open(dir)?.sync_all()
        };
        write().map_err(at(&path))?;
        Ok(done)
    }

    /// Adds a user.
    ///
    /// # Errors
    /// The name or a group is not one, or the user is there.
    pub fn add(&mut self, name: &str, groups: Vec<String>, now: Timestamp) -> Result<(), UsersError> {
        check_user_name(name)?;
        groups.iter().try_for_each(|group| check_group(group))?;
        if groups.len() > GROUPS {
            return Err(UsersError::Refused(format!("a user is in at most {GROUPS} groups")));
        }
        if self.users.contains_key(name) {
            return Err(UsersError::Refused(format!(
                "there is a user {name:?}; `imagehub token {name}` makes another token, `imagehub user remove {name}` \
                 takes all back"
            )));
        }
        if self.users.len() >= USERS {
            return Err(UsersError::Refused(format!("there are {USERS} users, the most that a server has")));
        }
        let user = User { groups, created: now.to_string(), tokens: Vec::new() };
        self.users.insert(name.to_owned(), user);
        Ok(())
    }

    /// Gives a user a new token, and answers with it: it is nowhere else.
    ///
    /// # Errors
    /// There is no such user, or it has too many.
    pub fn issue(&mut self, name: &str, now: Timestamp) -> Result<String, UsersError> {
        let Some(user) = self.users.get_mut(name) else {
            return Err(UsersError::Refused(format!(
                "there is no user {name:?}; `imagehub user add {name}` makes one, `imagehub user list` shows all"
            )));
        };
        if user.tokens.len() >= TOKENS {
            return Err(UsersError::Refused(format!(
                "{name:?} has {TOKENS} tokens, the most that a user has: `imagehub user remove {name}` takes all back"
            )));
        }
        let mut rng = rand::rng();
        let id = hex(&rng.random::<[u8; ID_BYTES]>());
        let secret = URL_SAFE_NO_PAD.encode(rng.random::<[u8; SECRET_BYTES]>());
        user.tokens.push(Token { id: id.clone(), hash: hash(&secret), created: now.to_string() });
        Ok(format!("{PREFIX}{id}_{secret}"))
    }

    /// Removes a user and takes all its tokens back.
    ///
    /// # Errors
    /// There is no such user.
    pub fn remove(&mut self, name: &str) -> Result<(), UsersError> {
        let gone = self.users.remove(name);
        gone.map(|_| ()).ok_or_else(|| UsersError::Refused(format!("there is no user {name:?}")))
    }
}

fn hash(secret: &str) -> String {
    hex(&Sha256::digest(secret))
}

/// Who a token is of.
#[derive(Debug, Clone)]
struct Known {
    hash: String,
    caller: Caller,
    revoked: CancellationToken,
}

/// What tells one state of the file from another.
type Stamp = Option<(u64, u64, i64, i64)>;

#[derive(Debug, Default)]
struct Loaded {
    stamp: Stamp,
    tokens: HashMap<String, Known>,
}

/// The tokens that are good now.
#[derive(Debug)]
pub struct Tokens {
    dir: PathBuf,
    loaded: Mutex<Loaded>,
}

impl Tokens {
    /// Those of the users of the data directory `dir`.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), loaded: Mutex::default() }
    }

    /// Who `token` is of, if it is good.
    #[must_use]
    pub fn caller(&self, token: &str) -> Option<Caller> {
        let (id, secret) = token.strip_prefix(PREFIX)?.split_once('_')?;
        let mut loaded = self.loaded.lock();
        self.look(&mut loaded);
        let known = loaded.tokens.get(id)?;
        // Of hashes it does no harm how long a comparison takes.
        (known.hash == hash(secret)).then(|| known.caller.clone().until(known.revoked.clone()))
    }

    /// Looks whether the file has changed.
    pub fn refresh(&self) {
        self.look(&mut self.loaded.lock());
    }

    fn look(&self, loaded: &mut Loaded) {
        let stamp = fs::metadata(self.dir.join(FILE)).ok();
        let stamp = stamp.map(|m| (m.ino(), m.len(), m.mtime(), m.mtime_nsec()));
        if stamp == loaded.stamp {
            return;
        }
        let users = match Users::read(&self.dir) {
            Ok(users) => users,
            Err(error) => {
                // Whoever was good stays so, until the file can be read again: it is replaced as a whole, so that
                // this is somebody's hand in it.
                tracing::error!(%error, "the users can't be read; those known before are");
                loaded.stamp = stamp;
                return;
            }
        };
        let mut before = std::mem::take(&mut loaded.tokens);
        for (name, user) in users.users {
            if check_user_name(&name).is_err() {
                continue;
            }
            let caller = Caller::authenticated(&name, user.groups);
            for token in user.tokens {
                let same = before.remove(&token.id).filter(|known| known.hash == token.hash && known.caller == caller);
                let known = same.unwrap_or_else(|| Known {
                    hash: token.hash,
                    caller: caller.clone(),
                    revoked: CancellationToken::new(),
                });
                loaded.tokens.insert(token.id, known);
            }
        }
        loaded.stamp = stamp;
        for (_, gone) in before {
            gone.revoked.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn with_alice() -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let token = Users::change(dir.path(), |users| {
            users.add("alice", vec!["dev".to_owned()], NOW)?;
            users.issue("alice", NOW)
        });
        (dir, token.unwrap())
    }

    /// What comes behind `imagehub_ID_`; it may have `_` in it.
    fn secret_of(token: &str) -> &str {
        &token[PREFIX.len() + 2 * ID_BYTES + 1..]
    }

    #[test]
    fn a_token_says_who_it_is_of_and_its_secret_is_not_stored() {
        let (dir, token) = with_alice();
        let caller = Tokens::new(dir.path()).caller(&token).unwrap();
        assert_eq!(
            (caller.user(), caller.groups()),
            ("alice", &["dev".to_owned(), "system:authenticated".to_owned()][..])
        );
        let file = fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert!(!file.contains(secret_of(&token)), "{file}");
    }

    #[test]
    fn tokens_of_every_wrong_form_are_nobodys() {
        let (dir, token) = with_alice();
        let tokens = Tokens::new(dir.path());
        let secret = secret_of(&token);
        let front = &token[..token.len() - secret.len() - 1];
        for wrong in [
            String::new(),
            PREFIX.to_owned(),
            front.to_owned(),
            format!("{front}_"),
            format!("{front}_{}", secret.to_lowercase()),
            format!("{token}x"),
            token[1..].to_owned(),
            format!("imagehub__{secret}"),
            "a".repeat(1 << 20),
        ] {
            assert!(tokens.caller(&wrong).is_none(), "{wrong:.80}");
        }
    }

    #[tokio::test]
    async fn what_is_taken_back_is_taken_back_at_once() {
        let (dir, token) = with_alice();
        let tokens = Tokens::new(dir.path());
        let caller = tokens.caller(&token).unwrap();
        let other = Users::change(dir.path(), |users| {
            users.add("bob", vec![], NOW)?;
            users.issue("bob", NOW)
        });
        let bob = tokens.caller(&other.unwrap()).unwrap();
        Users::change(dir.path(), |users| users.remove("alice")).unwrap();
        assert!(tokens.caller(&token).is_none());
        assert_eq!(caller.ended().await, "the token was taken back");
        assert!(futures::FutureExt::now_or_never(bob.ended()).is_none(), "others go on");
    }

    #[test]
    fn names_that_mean_something_else_are_refused() {
        let mut users = Users::default();
        for name in ["", "admin", "system:admin", "a:b", "-x", "a b", "ä", &"x".repeat(64), "a/b"] {
            assert!(users.add(name, vec![], NOW).is_err(), "{name:?}");
        }
        assert!(users.add("alice", vec!["system:nodes".to_owned()], NOW).is_err());
        users.add("alice@example.com", vec![MASTERS.to_owned()], NOW).unwrap();
        let twice = users.add("alice@example.com", vec![], NOW).unwrap_err().to_string();
        assert!(twice.contains("imagehub token"), "{twice}");
    }

    #[test]
    fn changes_at_the_same_time_are_both_made() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for i in 0..8 {
                let dir = dir.path();
                scope.spawn(move || Users::change(dir, |users| users.add(&format!("u{i}"), vec![], NOW)).unwrap());
            }
        });
        assert_eq!(Users::read(dir.path()).unwrap().users.len(), 8);
    }

    #[test]
    fn a_file_that_is_none_is_told_and_not_overwritten() {
        let (dir, _) = with_alice();
        fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(Users::change(dir.path(), |users| users.add("bob", vec![], NOW)).is_err());
        assert_eq!(fs::read_to_string(dir.path().join(FILE)).unwrap(), "{");
    }
}
