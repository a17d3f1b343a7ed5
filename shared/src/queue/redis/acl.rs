//! The smallest rights with which a worker can work on one run.
//!
//! Commands inside a function run with the caller's rights, so a worker's user needs the data commands
//! that the functions it calls use: [`WORKER_COMMANDS`], the one place that lists them. With them a
//! worker can still spoil its own run's queue, which `coordinator resume` rebuilds; it can reach no other
//! run, and nothing of the server.

use std::fmt;

use redis::{Value, cmd};
use url::Url;

use super::super::{Queue as _, QueueError, QueueErrorKind};
use super::link::Link;
use super::reply::text;
use super::{RedisOptions, RedisQueue};
use crate::digest::sha256_hex;
use crate::ids::{LeaseToken, RunId, ShardId, WorkerId};
use crate::settings::{QueueAddress, QueueUrl};

/// The functions a worker calls.
pub const WORKER_FUNCTIONS: [&str; 5] = ["claim", "beat", "complete", "fail", "release"];

/// The data commands those functions use, no more and no fewer, each with arguments that try it out on a
/// key.
pub const WORKER_COMMANDS: [(&str, &[&str]); 15] = [
    ("time", &[]),
    ("hgetall", &[KEY]),
    ("hmget", &[KEY, "f"]),
    ("hset", &[KEY, "f", "v"]),
    ("hdel", &[KEY, "f"]),
    ("hincrby", &[KEY, "f", "1"]),
    ("hkeys", &[KEY]),
    ("del", &[KEY]),
    ("zadd", &[KEY, "1", "m"]),
    ("zrem", &[KEY, "m"]),
    ("zrange", &[KEY, "0", "-1"]),
    ("zrangebyscore", &[KEY, "0", "1"]),
    ("zcard", &[KEY]),
    ("zscore", &[KEY, "m"]),
    ("xadd", &[KEY, "*", "f", "v"]),
];

/// Stands for a key in [`WORKER_COMMANDS`].
const KEY: &str = "KEY";

/// What a worker must not do, tried out without doing it.
const REFUSED: [&[&str]; 12] = [
    &["flushall"],
    &["keys", "*"],
    &["scan", "0"],
    &["config", "get", "*"],
    &["eval", "return 1", "0"],
    &["script", "flush"],
    &["function", "load", "x"],
    &["acl", "list"],
    &["monitor"],
    &["shutdown"],
    &["publish", "channel", "message"],
    &["subscribe", "channel"],
];

/// The password of a worker's user. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct QueuePassword(String);

impl QueuePassword {
    /// A fresh one: 32 random bytes in hex.
    pub fn fresh() -> Self {
        Self(hex::encode(rand::random::<[u8; 32]>()))
    }

    /// One that was kept; `None` for an empty one.
    pub fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    /// The password itself, for the file that keeps it and for logging in alone.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for QueuePassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QueuePassword(***)")
    }
}

/// A user that may work on one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerUser {
    name: String,
    run: RunId,
    password: QueuePassword,
    /// Whether the URL names another database than 0: a connection then begins with SELECT.
    selects: bool,
}

/// Why a name is none for a worker's user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name for a worker's user: letters, digits, '.', '_' and '-', and not \"default\"")]
pub struct InvalidUser(String);

/// The user's name where none is given.
pub fn default_name(run: &RunId) -> String {
    format!("worker-{run}")
}

/// Refuses names that a server or a URL would read otherwise, and the server's own user.
pub fn check_name(name: &str) -> Result<(), InvalidUser> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name == "default" || !name.chars().all(legal) {
        return Err(InvalidUser(name.to_owned()));
    }
    Ok(())
}

impl WorkerUser {
    /// A user of this name for the run, on the database that `address` names.
    pub fn new(
        name: &str,
        run: &RunId,
        password: QueuePassword,
        address: &QueueAddress,
    ) -> Result<Self, InvalidUser> {
        check_name(name)?;
        let database = Url::parse(address.url().expose()).ok();
        let database = database.as_ref().map_or("", |url| url.path().trim_matches('/'));
        let selects = !matches!(database, "" | "0");
        Ok(Self { name: name.to_owned(), run: run.clone(), password, selects })
    }

    /// What follows `ACL SETUSER`: whatever the user had before is taken away first. The password stands
    /// there as its SHA-256.
    pub fn rules(&self) -> Vec<String> {
        self.rules_for(WORKER_COMMANDS.iter().map(|(command, _)| *command))
    }

    /// The same for other data commands than [`WORKER_COMMANDS`].
    pub fn rules_for<'a>(&self, commands: impl Iterator<Item = &'a str>) -> Vec<String> {
        let mut rules = vec![
            self.name.clone(),
            "reset".to_owned(),
            "on".to_owned(),
            format!("#{}", sha256_hex(self.password.expose().as_bytes())),
            "resetchannels".to_owned(),
            format!("~fleet:{{{}}}:*", self.run),
        ];
        rules.extend(["-@all", "+fcall", "+ping"].map(str::to_owned));
        rules.extend(self.selects.then(|| "+select".to_owned()));
        rules.extend(commands.map(|command| format!("+{command}")));
        rules
    }

    /// The line for redis-cli.
    pub fn line(&self) -> String {
        format!("ACL SETUSER {}", self.rules().join(" "))
    }

    /// The server as this user reaches it.
    pub fn address(&self, administrator: &QueueAddress) -> Result<QueueAddress, QueueError> {
        let unreadable = || {
            QueueError::new(QueueErrorKind::Refused, "the queue's URL has no place for a user and a password")
        };
        let mut url = Url::parse(administrator.url().expose()).map_err(|_| unreadable())?;
        url.set_username(&self.name).map_err(|()| unreadable())?;
        url.set_password(Some(self.password.expose())).map_err(|()| unreadable())?;
        Ok(administrator.with_url(QueueUrl::from(url.to_string())))
    }
}

/// What becomes of the users when the server starts again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// They are in its aclfile.
    Saved,
    /// It keeps none, or does not save it; what it says of that.
    Forgotten(String),
}

/// The administrator's connection.
pub struct AccessList {
    link: Link,
    address: QueueAddress,
    options: RedisOptions,
}

impl AccessList {
    /// Connects at the first call.
    pub fn open(address: &QueueAddress, options: RedisOptions) -> Result<Self, QueueError> {
        let link = Link::open(address, options.clone())?;
        Ok(Self { link, address: address.clone(), options })
    }

    /// Makes the user, or resets the one there is.
    pub async fn apply(&self, user: &WorkerUser) -> Result<(), QueueError> {
        let mut command = cmd("ACL");
        command.arg("SETUSER").arg(user.rules());
        self.link.call("making the worker's user", &command).await.map(drop)
    }

    /// Deletes a user and ends its connections; `false` where there was none.
    pub async fn remove(&self, name: &str) -> Result<bool, QueueError> {
        let mut command = cmd("ACL");
        command.arg("DELUSER").arg(name);
        Ok(self.link.call("deleting the worker's user", &command).await? == Value::Int(1))
    }

    /// Asks the server to write its users down.
    pub async fn save(&self) -> Result<Kept, QueueError> {
        let mut command = cmd("ACL");
        command.arg("SAVE");
        match self.link.call("saving the users", &command).await {
            Ok(_) => Ok(Kept::Saved),
            Err(error) if error.is_transient() => Err(error),
            Err(error) => {
                let said = error.source.as_ref().map(ToString::to_string);
                Ok(Kept::Forgotten(said.unwrap_or(error.message)))
            }
        }
    }

    /// Logs in as the user and tries out what it may and may not do, changing nothing. What is not as it
    /// should be, one line each; empty where all is well.
    pub async fn prove(&self, user: &WorkerUser) -> Result<Vec<String>, QueueError> {
        let own_key = format!("fleet:{{{}}}:run", user.run);
        let mut wrong = Vec::new();
        for (command, arguments) in WORKER_COMMANDS {
            let words: Vec<&str> =
                arguments.iter().map(|word| if *word == KEY { own_key.as_str() } else { *word }).collect();
            if let Some(why) = self.try_out(user, command, &words).await? {
                wrong.push(format!("it may not {command}: {why}"));
            }
        }
        for words in REFUSED {
            if self.try_out(user, words[0], &words[1..]).await?.is_none() {
                wrong.push(format!("it may {}", words.join(" ")));
            }
        }
        let foreign = format!("fleet:{{{}-}}:run", user.run);
        if self.try_out(user, "hgetall", &[&foreign]).await?.is_none() {
            wrong.push("it may read another run's keys".to_owned());
        }
        self.log_in(user).await?;
        Ok(wrong)
    }

    /// One call as the user, of the function that changes nothing for a lease that nobody holds.
    async fn log_in(&self, user: &WorkerUser) -> Result<(), QueueError> {
        let queue = RedisQueue::connect(&user.address(&self.address)?, &user.run, self.options.clone())?;
        match queue.release(&WorkerId("queue-acl".to_owned()), ShardId(0), LeaseToken(0)).await {
            // The functions come with `plan` or `resume`; the server has let the user in.
            Err(error) if error.kind == QueueErrorKind::FunctionsMissing => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// Why the server would refuse the user this command; `None` where it would not.
    async fn try_out(
        &self,
        user: &WorkerUser,
        command: &str,
        arguments: &[&str],
    ) -> Result<Option<String>, QueueError> {
        let mut trial = cmd("ACL");
        trial.arg("DRYRUN").arg(&user.name).arg(command).arg(arguments);
        match self.link.call("trying out the worker's rights", &trial).await? {
            Value::Okay => Ok(None),
            answer => Ok(Some(text("ACL DRYRUN", answer)?).filter(|answer| answer != "OK")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// The functions of the library by name, each with its lines.
    fn functions() -> BTreeMap<&'static str, Vec<&'static str>> {
        let mut functions: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut current = None;
        for line in super::super::LIBRARY.lines() {
            if let Some(rest) = line.strip_prefix("local function ") {
                current = rest.split('(').next();
            }
            if let Some(name) = current {
                functions.entry(name).or_default().push(line);
            }
            if line == "end" {
                current = None;
            }
        }
        functions
    }

    fn calls(lines: &[&str], name: &str) -> bool {
        lines[1..].iter().any(|line| {
            let code = line.split("--").next().unwrap_or_default();
            code.match_indices(&format!("{name}(")).any(|(at, _)| {
                let before = code[..at].chars().next_back();
                before.is_none_or(|c| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'))
            })
        })
    }

    /// Every command in every function that the workers' functions reach, and nothing else.
    #[test]
    fn the_list_is_what_the_library_says() {
        let functions = functions();
        let mut reached: BTreeSet<&str> = WORKER_FUNCTIONS.into_iter().collect();
        let mut waiting: Vec<&str> = WORKER_FUNCTIONS.into_iter().collect();
        while let Some(name) = waiting.pop() {
            for other in functions.keys().filter(|other| calls(&functions[name], other)) {
                if reached.insert(other) {
                    waiting.push(other);
                }
            }
        }
        let commands: BTreeSet<String> = reached
            .iter()
            .flat_map(|name| functions[name].iter())
            .flat_map(|line| line.split("redis.call('").skip(1))
            .filter_map(|rest| Some(rest.split('\'').next()?.to_lowercase()))
            .collect();
        let listed: BTreeSet<String> = WORKER_COMMANDS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(commands, listed);
    }

    #[test]
    fn the_line_has_the_password_as_its_hash() {
        let password = QueuePassword::read(" hunter2\n").unwrap();
        let address = QueueAddress::from(QueueUrl::from("redis://admin:root@h:1/3".to_owned()));
        let user = WorkerUser::new("w", &"r.1".parse().unwrap(), password, &address).unwrap();
        let start = format!(
            "ACL SETUSER w reset on #{} resetchannels ~fleet:{{r.1}}:* -@all +fcall +ping +select +time ",
            sha256_hex(b"hunter2")
        );
        assert!(user.line().starts_with(&start), "{}", user.line());
        assert!(!format!("{user:?} {:?}", user.address(&address).unwrap()).contains("hunter2"));
        assert_eq!(user.address(&address).unwrap().url().expose(), "redis://w:hunter2@h:1/3");
        assert_eq!(QueuePassword::fresh().expose().len(), 64);
        assert_eq!(QueuePassword::read(" \n"), None);
        for bad in ["", "default", "a b", "a\nb", "ä"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
