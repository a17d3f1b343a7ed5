//! The smallest rights with which a worker can work on one run.
//!
//! Commands inside a function run with the caller's rights, so a worker's user needs the data commands
//! that the functions it calls use: [`WORKER_COMMANDS`], the one place that lists them. With them a
//! worker can still spoil its own run's queue, which `coordinator resume` rebuilds; it can reach no other
//! run, and nothing of the server.

mod user;

use redis::{Value, cmd};

pub use user::{
    InvalidUser, PasswordHash, QueuePassword, WorkerRights, WorkerUser, box_name, check_name, default_name,
};

use super::super::{Queue as _, QueueError, QueueErrorKind};
use super::link::Link;
use super::reply::{not_understood, text};
use super::{RedisOptions, RedisQueue};
use crate::ids::{LeaseToken, RunId, ShardId, WorkerId};
use crate::settings::QueueAddress;

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

    /// Makes the user, or resets the one there is: a [`WorkerUser`], or the [`WorkerRights`] of one whose
    /// password is not at hand.
    pub async fn apply(&self, user: &impl AsRef<WorkerRights>) -> Result<(), QueueError> {
        let mut command = cmd("ACL");
        command.arg("SETUSER").arg(user.as_ref().rules());
        self.link.call("making the worker's user", &command).await.map(drop)
    }

    /// Deletes a user and ends its connections; `false` where there was none.
    pub async fn remove(&self, name: &str) -> Result<bool, QueueError> {
        let mut command = cmd("ACL");
        command.arg("DELUSER").arg(name);
        Ok(self.link.call("deleting the worker's user", &command).await? == Value::Int(1))
    }

    /// The users that have these rights on this run and whose names begin like this, in the order of names.
    /// A name alone does not say whose it is: `worker-a-0-x` may be a box of run `a` or a user of run `a-0-x`.
    pub async fn users(&self, run: &RunId, prefix: &str) -> Result<Vec<String>, QueueError> {
        let operation = "listing the users";
        let mut command = cmd("ACL");
        command.arg("LIST");
        let Value::Array(lines) = self.link.call(operation, &command).await? else {
            return Err(not_understood(operation, "it is no list"));
        };
        let keys = keys_of(run);
        let mut names = Vec::new();
        for line in lines {
            let line = text(operation, line)?;
            let mut words = line.split(' ').skip_while(|word| *word != "user").skip(1);
            if let Some(name) = words.next()
                && name.starts_with(prefix)
                && words.any(|word| word == keys)
            {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
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
        let own_key = format!("fleet:{{{}}}:run", user.rights().run());
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
        let foreign = format!("fleet:{{{}-}}:run", user.rights().run());
        if self.try_out(user, "hgetall", &[&foreign]).await?.is_none() {
            wrong.push("it may read another run's keys".to_owned());
        }
        self.log_in(user).await?;
        Ok(wrong)
    }

    /// One call as the user, of the function that changes nothing for a lease that nobody holds.
    async fn log_in(&self, user: &WorkerUser) -> Result<(), QueueError> {
        let queue =
            RedisQueue::connect(&user.address(&self.address)?, user.rights().run(), self.options.clone())?;
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
        trial.arg("DRYRUN").arg(user.rights().name()).arg(command).arg(arguments);
        match self.link.call("trying out the worker's rights", &trial).await? {
            Value::Okay => Ok(None),
            answer => Ok(Some(text("ACL DRYRUN", answer)?).filter(|answer| answer != "OK")),
        }
    }
}

/// The rule for a run's keys.
fn keys_of(run: &RunId) -> String {
    format!("~fleet:{{{run}}}:*")
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
}
